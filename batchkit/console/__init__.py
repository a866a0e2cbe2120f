"""The console: the page that the batch URL shows to a browser, in one answer that needs nothing else.

Its sources stand beside this module: ``page.html``, ``page.css`` and the scripts, which are put together once. The policy that is
sent with it names the hashes of just that style and script, so that nothing else can run or be fetched, whatever a result holds.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.resources import files

from starlette.types import Scope

from batchkit._protocol.headers import accepts
from batchkit._protocol.scope import Frame
from batchkit._record import record_of
from batchkit.client_js import wire_part
from batchkit.settings import Settings

__all__ = ["asks_for_page", "page"]

# From the bottom to the top: a script uses what those before it define, and all of them the wire part of the client. Together
# they are one module.
SCRIPTS = ("json", "dom", "batch", "snippets", "combobox", "composer", "timeline", "answer", "main")

_COMMENTS = re.compile(r"^ *(?://|/\*\*).*\n", re.MULTILINE)


def asks_for_page(scope: Scope) -> bool:
    """Whether this is a browser that shows a person the batch URL: a GET or HEAD that names HTML, and JSON not before it.

    Any other client, one that takes ``*/*`` included, has mistaken the method, and is told so by a 405
    (protocol.md#the-batch-request).
    An action of a batch is none of these.
    """
    if scope["method"] not in ("GET", "HEAD") or record_of(scope) is not None:
        return False
    return accepts(scope, b"text/html") > accepts(scope, b"application/json")


def page(may_run: Iterable[tuple[str, str]], frame: Frame, settings: Settings) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The page, and the header fields that go with it.

    All that it knows of the host are the methods and templates that ``may_run`` below the base path, which the log tells as
    well, and what a client needs to know to compose a batch.
    """
    known = {
        "base": frame.base_path,
        "dialect": settings.dialect,
        "limit": settings.max_actions,
        "routes": _below(may_run, frame.base_path.removeprefix(frame.scope["root_path"])),
    }
    # Within a script element, only what begins with < could end it.
    told = json.dumps(known, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    before, after, fields = _parts()
    return before + told.encode() + after, fields


def _below(may_run: Iterable[tuple[str, str]], base_path: str) -> dict[str, list[str]]:
    """The methods of each template, as it continues after the base path; others no relative_path can reach."""
    base = base_path.split("/")[1:]
    routes: dict[str, list[str]] = {}
    for method, template in may_run:
        segments = template.split("/")[1:]
        # The base path of this request may stand for parameters of a mount.
        if len(segments) > len(base) and all(a == b or "{" in a for a, b in zip(segments, base, strict=False)):
            methods = routes.setdefault("/" + "/".join(segments[len(base) :]), [])
            if method not in methods:
                methods.append(method)
    return routes


@cache
def _parts() -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    """The page before and after what it knows of the host, and its header fields."""
    sources = files(__name__)
    style = sources.joinpath("page.css").read_text("utf-8")
    # The comments are for who reads the sources, not for each who opens the page.
    scripts = (sources.joinpath(f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    script = _COMMENTS.sub("", wire_part() + "".join(scripts))
    html = sources.joinpath("page.html").read_text("utf-8").replace("/* page.css */", style).replace("/* scripts */", script)
    before, after = html.encode().split(b"/* known */")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    fields = [
        (b"content-security-policy", policy.encode()),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"vary", b"accept"),
    ]
    return before, after, fields


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()
