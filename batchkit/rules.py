"""Rule: some routes of the host, named by their templates (contract section 2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from starlette.routing import compile_path

__all__ = ["Rule", "check_template", "is_below", "read_template", "unmet"]

_TEMPLATE = re.compile(r"(?:(GET|HEAD|POST|PUT|PATCH|DELETE) )?(/\S*)")
_PARAMETER = re.compile(r"{[a-zA-Z_]\w*(?::[a-zA-Z_]\w*)?}")
_CONVERTOR = re.compile(r":[^{}]*}")


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


def unmet(rules: Iterable[Rule], templates: Sequence[str]) -> Iterator[str]:
    """What to say of each rule that means none of ``templates``, the full ones of all routes: it does nothing."""
    for rule in rules:
        if not any(rule.matches(rule.method or "GET", template) for template in templates):
            meant = get_close_matches(rule.text, _written(rule, templates), n=1)
            yield f"{rule.text!r}: the app has no such route" + (f": did you mean {meant[0]!r}?" if meant else "")


def is_below(base_path: str, template: str) -> bool:
    """Whether a route with this template, or what is mounted there, can be below ``base_path``."""
    wanted = base_path.strip("/").split("/") if base_path.strip("/") else []
    pairs = zip(wanted, template.strip("/").split("/"), strict=False)
    return all(given in ("", name) or "{" in name + given for name, given in pairs)


def _written(rule: Rule, templates: Iterable[str]) -> Iterator[str]:
    """All that a rule of this kind could say of ``templates``."""
    for template in templates:
        parts = template.split("/")
        for end in range(2, len(parts)) if rule.below else (len(parts),):
            yield (f"{rule.method} " if rule.method else "") + "/".join(parts[:end]) + ("/*" if rule.below else "")


def _bare(template: str) -> str:
    return _CONVERTOR.sub("}", template).rstrip("/")
