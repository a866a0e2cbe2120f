"""The page of the protocol says what the tests quote, and has the anchors that code cites."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "docs" / "protocol.md"
PAGES = (PROTOCOL, ROOT / "README.md")

# What is shorter stands on any page.
SHORTEST = 12

# Quotes of Asana's guide, of RFCs and of other documents outside this repository.
ELSEWHERE: frozenset[str] = frozenset()

# Quotes whose sentence has no place on a page for readers: each goes as the docstring that has it is reworded.
TO_REWORD: frozenset[str] = frozenset(
    {
        # The contract's first edition.
        "a route matches, its endpoint is a class without that method | the endpoint's own 405",
        "the route cannot be determined (an opaque mounted app that is not marked, a router default",
        "a middleware of the host changed path, method or host on the way to the router | 400 (the guard at the router sees it)",
        "a middleware of the host changed path",
        "400 (the guard at the router sees it)",
        "a path that only has or misses its trailing slash | sent through the host: its 307 with location is the result",
        "no route of the host matches path and method: what the host's own 404 or 405 handler answers",
        "refused ones first",
        # The design, the list of hazards and the issues.
        "at most 0.1 s of cpu each at the defaults, and linear in max_actions",
        "configuration from a file: from_toml as the design has it; each error names file, table and key",
        "the same keys in",
        "of a pyproject.toml or",
        'hooks and plugins as "module:name"',
        "an unknown key or bad value is an error that names file, table and key",
        "generated and mutated envelopes",
        "never give a 5xx for the batch, never hang",
        "always answer valid json",
        "same schema names, 200/400/401/403/429/500, plus 413, 415, 503",
        "from the one schema in schema.py",
        "a span per batch and a child span per action named by route template",
        "a span per batch and a child span per action named by route template, with semantic-convention attributes",
        "metrics: batches, actions by route template and status, refusals by limit, durations, batch size",
        "metrics: batches, actions by route template and status",
        "traceparent rewritten so that the host's own instrumentation",
        "nests under the action",
        "result.duration",
        "to the last byte of its answer",
        "a readme recipe shows prometheus through it",
        "every wrong keyword, mark, hook or installation that a person can write is met by an error that says what to do",
    }
)


def plain(text: str) -> str:
    """``text`` as a reader hears it: without Markdown's marks and the targets of links, in one case and on one line."""
    text = re.sub(r"\[([^\]]+)\]\([^)\s]*\)", r"\1", text)
    return " ".join(re.sub(r"[*`]", "", text).lower().split())


def parts(quote: str) -> Iterator[str]:
    """The pieces of a quote between what it leaves out (``…``) and what it puts in (``[…]``)."""
    for part in re.split(r"…|\[[^\]]*\]", quote):
        part = plain(part).strip(" .,;:|")
        if len(part) >= SHORTEST:
            yield part


def docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def quoted(module: Path) -> Iterator[str]:
    for docstring in docstrings(ast.parse(module.read_text())):
        for quote in re.findall("“([^“”]+)”", docstring):
            yield from parts(quote)


def slugs(page: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page in Markdown."""
    text = re.sub(r"(?ms)^```.*?^```", "", page)
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#+ +(.+?)\s*$", text):
        slug = re.sub(r"[^\w\- ]", "", plain(heading)).replace(" ", "-")
        number = 0
        while (unique := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(unique)
    return found


def written(suffix: str) -> list[Path]:
    """The files of the repository with this suffix, without what is installed or built."""
    skipped = {"node_modules", "build", "dist"}
    return [
        path
        for path in sorted(ROOT.rglob(f"*{suffix}"))
        if not any(part in skipped or (part.startswith(".") and part != ".github") for part in path.relative_to(ROOT).parts[:-1])
    ]


MODULES = [path for path in written(".py") if path.is_relative_to(ROOT / "tests")]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_quote_stands_on_a_page(module: Path) -> None:
    pages = [plain(page.read_text()) for page in PAGES]
    allowed = ELSEWHERE | TO_REWORD
    assert [part for part in quoted(module) if part not in allowed and not any(part in page for page in pages)] == []


def test_each_anchor_that_is_cited_is_a_heading() -> None:
    anchors = slugs(PROTOCOL.read_text())
    cited = {
        (str(path.relative_to(ROOT)), anchor)
        for path in [*written(".py"), *written(".md")]
        if path != Path(__file__)
        for anchor in re.findall(r"protocol\.md#([\w-]+)", path.read_text())
    }
    assert {(path, anchor) for path, anchor in cited if anchor not in anchors} == set()


def test_each_link_within_the_page_is_a_heading() -> None:
    page = PROTOCOL.read_text()
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= slugs(page)


def test_quotes_are_found_over_lines_and_in_their_parts() -> None:
    tree = ast.parse('def test():\n    """“**Nothing** of it … ran on\n    at [that] the very end.”"""')
    (quote,) = (found for docstring in docstrings(tree) for found in re.findall("“([^“”]+)”", docstring))
    assert list(parts(quote)) == ["nothing of it", "the very end"]
    assert list(parts("`headers`: what is [as above] in this result, …")) == ["headers: what is", "in this result"]


def test_slugs_are_those_of_github() -> None:
    page = "# A `POST`, *alone*\n```\n# none\n```\n## Error codes\n## Error codes\n### What's next: 2.0?\n"
    assert slugs(page) == {"a-post-alone", "error-codes", "error-codes-1", "whats-next-20"}
