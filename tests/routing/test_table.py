"""The index of routes says what Starlette's own scan of the table says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.convertors import CONVERTOR_TYPES, Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router
from starlette.types import Scope

from batchkit import batchable
from batchkit._routing import matching
from batchkit._routing.find import find
from batchkit._routing.matching import route_path
from batchkit._routing.table import Table
from batchkit.settings import Settings


async def endpoint(request: Request) -> Response:
    return Response()


class Loose(Route):
    """A route that matches in its own way: without regard to case."""

    def matches(self, scope: Any) -> Any:
        return super().matches({**scope, "path": scope["path"].lower()})


segments = st.sampled_from(["a", "b", "A", "{x}", "{y:int}", "{z:path}", "a-{x}", "7", ""])
paths = (
    st.lists(segments, max_size=3)
    .map(lambda parts: "/" + "/".join(parts))
    .filter(lambda path: path.count("{x}") < 2 > path.count("{z"))
)
methods = st.sampled_from([["GET"], ["POST"], ["GET", "DELETE"], None])


def unique_parameters(path: str) -> bool:
    return all(path.count(name) < 2 for name in ("{x}", "{y:", "{z:"))


plain_routes = st.builds(
    lambda kind, path, methods: kind(path, endpoint, methods=methods),
    st.sampled_from([Route, Route, Loose]),
    paths.filter(unique_parameters),
    methods,
)
routes: st.SearchStrategy[Any] = st.recursive(
    plain_routes,
    lambda inner: (
        st.builds(lambda path, below: Mount(path, routes=below), paths.filter(unique_parameters), st.lists(inner, max_size=3))
        | st.builds(
            lambda host, below: Host(host, Router(below)),
            st.sampled_from(["h.example", "{s}.example"]),
            st.lists(inner, max_size=2),
        )
    ),
    max_leaves=8,
)
requested = st.lists(st.sampled_from(["a", "b", "A", "a-1", "7", "", "x", "a\n", "\n"]), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


def scanned(routes: list[BaseRoute], scope: dict[str, Any]) -> tuple[Match, BaseRoute | None, Any]:
    """What Starlette's router does, as it does it: every route in turn. And what the first one adds to the scope."""
    partial, adds = None, None
    for route in routes:
        match, child = route.matches(scope)
        if match is Match.FULL:
            if isinstance(route, Mount | Host):
                return (*scanned(route.routes, {**scope, **child})[:2], child)
            return match, route, child
        if match is Match.PARTIAL and partial is None:
            partial, adds = route, child
    return (Match.PARTIAL, partial, adds) if partial is not None else (Match.NONE, None, None)


@given(st.lists(routes, max_size=8), requested, st.sampled_from(["GET", "POST", "DELETE"]), st.sampled_from(["", "/a", "/a/b"]))
@settings(max_examples=400)
def test_the_index_is_equal_to_the_plain_scan(table: list[BaseRoute], path: str, method: str, root_path: str) -> None:
    scope = {
        "type": "http",
        "method": method,
        "path": root_path + path,
        "root_path": root_path,
        "headers": [(b"host", b"h.example")],
    }
    indexed = Table(Router(table), Settings())
    indexed.refresh()
    found = find(indexed, dict(scope))
    match, route, adds = scanned(table, scope)
    assert (found.match, found.entry.route if found.entry else None) == (match, route)
    assert found.error is None
    while found.above is not None:
        found = found.above
    assert found.child_scope == (adds or {})


def taken(table: Table, path: str) -> Any:
    """What the route that ``path`` is taken to adds to the scope; None where there is no such route."""
    table.refresh()
    found = find(table, {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []})
    if found.error is not None:
        raise found.error
    return found.child_scope if found.match is Match.FULL else None


def test_a_route_that_has_come_to_say_something_else_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later Starlette, or who instruments ``Route.matches``, before the first batch or after: what it says is what holds."""
    matches = Route.matches
    # That of this Starlette is read right.
    assert matching.READ is matches

    def says_more(route: Route, scope: Scope) -> tuple[Match, Scope]:
        match, child = matches(route, scope)
        return match, {**child, "more": route.path} if child else child

    adds = {"endpoint": endpoint, "path_params": {"gid": "7"}}
    early = Table(Router([Route("/tasks/{gid}", endpoint)]), Settings())
    assert taken(early, "/tasks/7") == adds
    monkeypatch.setattr(Route, "matches", says_more)
    late = Table(Router([Route("/tasks/{gid}", endpoint)]), Settings())
    assert taken(early, "/tasks/7") == taken(late, "/tasks/7") == adds | {"more": "/tasks/{gid}"}
    # Had it been there first.
    monkeypatch.setattr(matching, "READ", says_more)
    assert not matching._agrees()


def test_a_route_with_a_matches_of_its_own_is_asked_itself() -> None:
    route = Route("/tasks/{gid}", endpoint)
    route.matches = lambda scope: (Match.NONE, {})  # type: ignore[method-assign]
    assert taken(Table(Router([route]), Settings()), "/tasks/7") is None


def test_a_group_of_a_convertor_is_no_parameter() -> None:
    """Starlette fails on one, and so the request does."""

    class Year(Convertor[str]):
        regex = r"(?P<year>\d{4})-\d\d"

        def convert(self, value: str) -> str:
            return value

        def to_string(self, value: str) -> str:
            return value

    register_url_convertor("month", Year())
    try:
        table = Table(Router([Route("/{when:month}", endpoint)]), Settings())
        with pytest.raises(KeyError):
            taken(table, "/2026-11")
    finally:
        del CONVERTOR_TYPES["month"]


@pytest.mark.parametrize("path", ["/tasks", "/tasks/{gid}", "/{kind}"])
def test_a_line_feed_at_the_end_is_let_pass_as_by_starlette(path: str) -> None:
    """The $ of a pattern does: what a limit counts must not be missed by it."""
    route = Route(path, endpoint)
    for requested in ("/tasks\n", "/tasks/7\n", "/tasks\n\n", "/tasks\n/7", "/\ntasks"):
        scope: Scope = {"type": "http", "method": "GET", "path": requested, "root_path": "", "headers": []}
        match, adds = route.matches(scope)
        assert taken(Table(Router([route]), Settings()), requested) == (adds if match is Match.FULL else None)


def test_routes_that_are_added_later_are_seen() -> None:
    app = Starlette(routes=[Mount("/m", routes=[Route("/a", endpoint)], name="m")])
    table = Table(app.router, Settings())

    def match(path: str) -> Match:
        table.refresh()
        return find(table, {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}).match

    assert [match("/m/a"), match("/m/b"), match("/c")] == [Match.FULL, Match.NONE, Match.NONE]
    app.add_route("/c", endpoint)
    app.routes[0].routes.append(Route("/b", endpoint))  # type: ignore[attr-defined]
    assert [match("/m/a"), match("/m/b"), match("/c")] == [Match.FULL, Match.FULL, Match.FULL]
    del app.routes[0]
    assert [match("/m/a"), match("/c")] == [Match.NONE, Match.FULL]


def test_the_path_below_root_path_is_what_starlette_matches_on() -> None:
    def below(path: str, root_path: str) -> str:
        return route_path({"path": path, "root_path": root_path})

    assert [below("/a/b", ""), below("/a/b", "/a"), below("/ab", "/a"), below("/a", "/a"), below("/b", "/a")] == [
        "/a/b",
        "/b",
        "/ab",
        "",
        "/b",
    ]


def test_no_verdict_is_kept_on_a_method_that_no_action_has() -> None:
    table = Table(Router([Route("/tasks", batchable(Response()))]), Settings())
    [entry] = table.leaves()
    verdicts = [entry.verdict(f"MADE-UP-{number}") for number in range(100)]
    assert all(verdict == entry.verdict("GET") for verdict in verdicts)
    assert set(entry.verdicts) == {"GET"}
