"""Which requests can travel in a batch: those that the server makes again of their action, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Literal

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit._protocol.headers import WITHHELD
from batchkit._protocol.request import decode
from batchkit.client import AsyncBatchTransport, BatchClient, BatchTransport
from batchkit.client.drafts import draft_of
from batchkit.client.server import MOST_REFUSED, Server
from batchkit.settings import Settings
from tests.steps import counted

URL = "https://example.com/api/1.0"
client = httpx2.Client()


def server(dialect: Literal["asana", "plain"] = "asana") -> Server:
    return Server(httpx2.URL(f"{URL}/batch"), dialect=dialect)


def sent(method: str, url: str, *, at: Server | None = None, **keywords: Any) -> dict[str, Any] | None:
    """The action that a request travels as, None where it travels alone."""
    action = draft_of(client.build_request(method, url, **keywords), server() if at is None else at)
    return None if action is None else json.loads(action.json)


def test_a_read() -> None:
    assert sent("GET", f"{URL}/tasks/1") == {"relative_path": "/tasks/1", "method": "get"}


def test_the_query_of_the_asana_dialect() -> None:
    """Section 2: "for get/head/delete the query parameters", and options "limit, offset → query limit, offset …" """
    params = {"assignee": "me", "tags": "a,b c", "limit": 3, "opt_fields": "name,notes"}
    assert sent("GET", f"{URL}/tasks", params=params) == {
        "relative_path": "/tasks",
        "method": "get",
        "data": {"assignee": "me", "tags": "a,b c"},
        "options": {"limit": 3, "fields": "name,notes"},
    }


@pytest.mark.parametrize(
    "query", ["a=1&a=2", "limit=3&a=1", "limit=03", "limit=-1", "opt_pretty=true", "a", "a=%20", "opt_fields=b&limit=1"]
)
def test_a_query_that_the_asana_dialect_cannot_spell(query: str) -> None:
    assert sent("GET", f"{URL}/tasks?{query}") is None
    assert sent("GET", f"{URL}/tasks?{query}", at=server("plain")) == {"relative_path": f"/tasks?{query}", "method": "get"}


def test_bodies() -> None:
    data = {"data": {"name": "Grüße", "due": None}}
    path = {"relative_path": "/tasks", "method": "post"}
    assert sent("POST", f"{URL}/tasks", json=data) == path | data
    assert sent("POST", f"{URL}/tasks", json=data, at=server("plain")) == path | {"data": data}
    assert sent("POST", f"{URL}/tasks", json=data, params={"opt_fields": "name"}) == path | data | {"options": {"fields": "name"}}
    for keywords in ({}, {"json": {"name": "x"}}, {"json": {"data": [1]}}, {"data": {"data": "{}"}}, {"content": iter([b"{}"])}):
        assert sent("POST", f"{URL}/tasks", **keywords) is None
    for json_ in ([1], "x", 3):
        assert sent("PUT", f"{URL}/tasks/1", json=json_, at=server("plain")) is None
    assert sent("DELETE", f"{URL}/tasks/1", json=data) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/other",
        "https://example.com/api/1.0",
        "https://example.com/api/1.00/tasks",
        "http://example.com/api/1.0/tasks",
        "https://example.com:444/api/1.0/tasks",
        "https://example.org/api/1.0/tasks",
        f"{URL}/batch",
        f"{URL}/batch/",
        f"{URL}//tasks",
        f"{URL}/%2e%2e/tasks",
        f"{URL}/a%5cb",
        f"{URL}/%ff",
        f"{URL}/%00",
        f"{URL}/{'x' * 2000}",
    ],
)
def test_other_places(url: str) -> None:
    assert sent("GET", url) is None


def test_the_base_path_is_that_of_the_server() -> None:
    at = Server(httpx2.URL("https://example.com/somewhere/batch"), base_path="/api/")
    assert sent("GET", "https://example.com/api/tasks/1", at=at) == {"relative_path": "/tasks/1", "method": "get"}
    assert sent("GET", "https://example.com/somewhere/tasks/1", at=at) is None


OWN = {b"accept-encoding", b"connection", b"transfer-encoding"}


@pytest.mark.parametrize(
    "name",
    [name.decode() for name in sorted(WITHHELD - OWN)]
    + ["if-match", "proxy-authorization", "content-language"]
    + ["x_idempotency_key", "idempotency_key", "x_http-method_override", "content_type", "accept_encoding"],
)
def test_what_an_action_cannot_carry(name: str) -> None:
    """Section 2: "The request headers of an action are the batch's own, less …" """
    assert sent("GET", f"{URL}/tasks/1", headers={name: "1"}) is None


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson", "application/json, application/jsonl"])
def test_what_is_to_be_streamed_travels_alone(accept: str) -> None:
    assert sent("GET", f"{URL}/tasks/1", headers={"accept": accept}) is None


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "QUERY"])
def test_other_methods(method: str) -> None:
    assert sent(method, f"{URL}/tasks/1") is None


@given(
    method=st.sampled_from(["GET", "DELETE", "HEAD", "POST"]),
    query=st.text("a=&,+%20b1;", max_size=12) | st.sampled_from(["limit=3", "a=1&limit=3", "offset=x&opt_fields=a%2Cb"]),
    content=st.sampled_from([b"", b'{"data":{}}', b'{"data":{"a" : [1.10]}}', b'{"data": {}}', b'{"data":{"a":"\xc3\xa9"}}']),
    dialect=st.sampled_from(["asana", "plain"]),
)
def test_the_server_makes_the_same_request_of_it(
    method: str, query: str, content: bytes, dialect: Literal["asana", "plain"]
) -> None:
    """ "must be exact or go out normally": by the server's own decoding."""
    headers = {"content-type": "application/json"} if content else {}
    request = client.build_request(method, f"{URL}/tasks/1?{query}", content=content, headers=headers)
    action = draft_of(request, server(dialect))
    if action is not None:
        [read] = decode(b'{"data":{"actions":[%b]}}' % action.json, Settings(dialect=dialect))
        assert read.result is None
        assert (read.method, read.path, read.body or b"") == (method, "/tasks/1", content)
        assert read.query_string == request.url.query


@pytest.mark.parametrize(
    ("place", "first"),
    [("http://api.example/batch", "https://api.example/tasks/1"), ("https://localhost:8000/batch", "http://localhost:8000/1")],
)
def test_a_batch_endpoint_of_another_scheme_is_told(place: str, first: str, caplog: pytest.LogCaptureFixture) -> None:
    """No request that its client makes would ever be in a batch."""
    at = Server(place)
    for _ in range(2):
        assert draft_of(httpx2.Request("GET", first), at) is None
    origin, scheme = place.removesuffix("/batch").replace(":8000", ""), first.partition(":")[0]
    said = f"url='{origin}…': a request to {scheme}:// cannot be in a batch of it: give url the scheme of your requests"
    assert caplog.messages == [said]


def test_requests_to_elsewhere_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    at = Server("https://api.example/batch")
    elsewhere = ["https://example/1", "http://login.example/1", "https://api.example:8443/1", "http://api.example:8000/1"]
    assert [draft_of(httpx2.Request("GET", url), at) for url in elsewhere] == [None] * 4
    assert draft_of(httpx2.Request("GET", "https://api.example/tasks/"), at)
    # A server behind a proxy redirects so, and the proxy back.
    assert draft_of(httpx2.Request("GET", "http://api.example/tasks"), at) is None
    assert caplog.messages == []


@pytest.mark.parametrize("make", [BatchTransport, AsyncBatchTransport])
def test_a_window_in_milliseconds_is_told(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It may be meant: a window that lasts until the batch is full, say."""
    for window in (0, 0.002, 0.05, 0.999):
        make(url=f"{URL}/batch", window=window)
    BatchClient(URL)
    assert caplog.messages == []
    make(url=f"{URL}/batch", window=2)
    assert caplog.messages == ["window=2: each request waits so many seconds for others: for 2 ms give 0.002"]


def test_what_was_refused_is_remembered_within_bounds() -> None:
    at = server()
    at.refused("GET", b"/exports/1")
    assert at.refuses("GET", b"/exports/22")
    assert not at.refuses("POST", b"/exports/1")
    assert not at.refuses("GET", b"/exports")
    for number in range(MOST_REFUSED):
        at.refused("GET", b"/" + b"x" * number)
    assert not at.refuses("GET", b"/exports/1")


def test_what_was_refused_is_remembered_by_its_kind() -> None:
    at = server()
    at.refused("GET", b"/a1/b//2c/d3e/")
    assert at.refuses("GET", b"/4/b//55/6/")
    assert not any(at.refuses("GET", path) for path in (b"/4/b//55/6", b"/4/b/55/6/", b"/a/b//2c/d3e/", b"/4/7/b//55/6/"))


def test_a_path_that_no_action_has_is_not_looked_for_among_what_was_refused() -> None:
    at = server()
    at.refused("GET", b"/tasks/1")
    request = client.build_request("GET", f"{URL}/{'a' * 30_000}")
    with counted() as steps:
        assert draft_of(request, at) is None
    assert steps.patterns == set()


@pytest.mark.parametrize("make", [BatchTransport, AsyncBatchTransport])
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("url", "/batch"),
        ("dialect", "json"),
        ("window", -1),
        ("max_wait", "1"),
        ("max_actions", 0),
        ("max_body_size", True),
    ],
)
def test_wrong_options_are_named(make: type[BatchTransport] | type[AsyncBatchTransport], keyword: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{keyword}="):
        make(**{"url": f"{URL}/batch", keyword: value})


def test_the_batch_endpoint_of_the_builder() -> None:
    with pytest.raises(ValueError, match=r"^base_url="):
        BatchClient("/api")


def test_without_the_extra_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['httpx2'] = None; import batchkit.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'batchkit-asgi[client]'")


def test_the_server_does_not_need_the_client() -> None:
    code = (
        "import sys; sys.modules['httpx2'] = None; import batchkit, batchkit.limiter; assert 'batchkit.client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
