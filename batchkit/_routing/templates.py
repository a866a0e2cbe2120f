"""Rule: some routes of the host, named by their templates (protocol.md#an-action)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

from starlette.routing import compile_path

from batchkit.model import METHODS

__all__ = ["Rule", "check_template", "is_below", "read_template", "unmet"]

_TEMPLATE = re.compile(rf"(?:({'|'.join(METHODS)}) )?(/\S*)")
_PARAMETER = re.compile(r"{[a-zA-Z_]\w*(?::[a-zA-Z_]\w*)?}")
_CONVERTOR = re.compile(r":[^{}]*}")
_REST = re.compile(r"{[^{}:]*:path}$")


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of ``exclude`` or of a limit's ``routes``: ``[METHOD ]template``, ``/*`` at its end for all below."""

    text: str
    method: str | None
    template: str
    below: bool

    @classmethod
    def read(cls, keyword: str, text: str) -> Rule:
        """The rule that a text stands for. Raises ValueError, naming the keyword it was given to."""
        method, template = read_template(keyword, text)
        return cls(text, method, _bare(template.removesuffix("/*")), template.endswith("/*"))

    def matches(self, method: str, template: str) -> bool:
        """Whether it means a route with this full template, for this method.

        A rule for GET holds for its HEAD; convertors (``{gid:int}``) and a slash at the end make no difference.
        """
        if self.method not in (None, method) and (self.method, method) != ("GET", "HEAD"):
            return False
        template = _bare(template)
        return template == self.template or (self.below and template.startswith(self.template + "/"))

    def may_match(self, method: str, template: str) -> bool:
        """Whether it means a route with this full template, or may mean one below it, for this method."""
        return self.matches(method, template) or (
            self.matches(method, self.template) and f"{self.template}/".startswith(_bare(_REST.sub("", template)) + "/")
        )


def read_template(keyword: str, text: str) -> tuple[str | None, str]:
    """The method, if any, and the template of ``[METHOD ]template``. Raises ValueError, naming the keyword it was given to."""
    match = _TEMPLATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{keyword}: {text!r}: give a route template like 'POST /attachments' or '/users/{{gid}}'")
    return match[1], match[2]


def check_template(keyword: str, template: str) -> None:
    """Raise ValueError where ``template`` is none of Starlette's, but Flask's, Express's or one with a slip in it."""
    try:
        compile_path(template)
    except (AssertionError, ValueError) as error:
        raise ValueError(f"{keyword}: {template!r}: {error}") from None
    if re.search(r"[{}<>*]|/:", _PARAMETER.sub("", template)):
        raise ValueError(f"{keyword}: {template!r}: write parameters as in '/tasks/{{gid}}' or '/tasks/{{gid:int}}'")


class Place(Protocol):
    """A route: its full template, and its methods, None for any."""

    @property
    def template(self) -> str: ...

    @property
    def methods(self) -> Collection[str] | None: ...


def unmet(rules: Iterable[Rule], routes: Sequence[Place]) -> Iterator[str]:
    """What to say of each rule that means none of ``routes``, all that there are: it does nothing."""
    for rule in rules:
        # One without a method holds for any.
        if not any(rule.matches(method or "GET", it.template) for it in routes for method in it.methods or (rule.method,)):
            meant = _meant(rule, routes)
            yield f"{rule.text!r}: the app has no such route" + (f": did you mean {meant!r}?" if meant else "")


def is_below(base_path: str, template: str) -> bool:
    """Whether a route with this template, or what is mounted there, can be below ``base_path``."""
    wanted = base_path.strip("/").split("/") if base_path.strip("/") else []
    pairs = zip(wanted, template.strip("/").split("/"), strict=False)
    return all(given in ("", name) or "{" in name + given for name, given in pairs)


def _meant(rule: Rule, routes: Iterable[Place]) -> str | None:
    """The nearest rule of the same kind that means one of ``routes``."""
    written: dict[str, set[str]] = {}
    for route in routes:
        parts = route.template.split("/")
        for end in range(2, len(parts)) if rule.below else (len(parts),):
            methods = written.setdefault("/".join(parts[:end]) + ("/*" if rule.below else ""), set())
            methods.update(route.methods or METHODS)
    for template in get_close_matches(rule.text.removeprefix(f"{rule.method} "), written, n=1):
        if rule.method is None:
            return template
        for method in get_close_matches(rule.method, sorted(written[template].intersection(METHODS)), n=1, cutoff=0):
            return f"{method} {template}"
    return None


def _bare(template: str) -> str:
    return _CONVERTOR.sub("}", template).rstrip("/")
