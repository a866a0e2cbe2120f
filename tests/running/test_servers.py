"""The same smoke and fault tests over real sockets, on each server and protocol."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.batches import action, envelope
from tests.servers import TLS, asking_for_lines, free_port, read_until

SERVERS = {
    "uvicorn, h11": ["uvicorn", "--http", "h11", "--port", "{port}", "tests.served:app"],
    "uvicorn, httptools": ["uvicorn", "--http", "httptools", "--port", "{port}", "tests.served:app"],
    "hypercorn, asyncio": ["hypercorn", "-k", "asyncio", "-b", "127.0.0.1:{port}", "tests.served:app"],
    "hypercorn, trio": ["hypercorn", "-k", "trio", "-b", "127.0.0.1:{port}", "tests.served:app"],
    "granian": ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "tests.served:app"],
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A running server: its name and its URL."""
    with running(request.param) as url:
        yield request.param, url


@contextmanager
def running(name: str) -> Iterator[str]:
    """Run a server in a process of its own, and see that it survives."""
    port = free_port()
    command = [argument.format(port=port) for argument in SERVERS[name]]
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            assert process.poll() is None, "the server has ended"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                continue
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None, "the server did not survive"
    finally:
        process.terminate()
        process.wait()


JSON = {"content-type": "application/json"}

EXPECTED = {
    "/hello": 200,
    "/fails": 500,
    "/leaves": 500,
    "/strays": 500,
    "/never": 504,
    "/endless": 504,
    "/silent/": 500,
    "/rubbish/": 500,
    "/thread": 200,
    "/nowhere": 404,
    "/batch": 400,
    "/hello/": 307,
}


def test_a_batch_of_faults_on_one_connection(server: tuple[str, str]) -> None:
    """Every action has its own result, and the next requests on the same connection are answered."""
    name, url = server
    # Only hypercorn speaks HTTP/2 without TLS here.
    for http2 in (False, True) if name.startswith("hypercorn") else (False,):
        with httpx2.Client(http1=not http2, http2=http2, timeout=30, trust_env=False, verify=TLS) as client:
            for _ in range(3):
                actions = [action(path) for path in EXPECTED]
                answer = client.post(f"{url}/batch", json={"data": {"actions": actions}})
                assert answer.status_code == 200
                assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                results = answer.json()["data"]
                assert {path: result["status_code"] for path, result in zip(EXPECTED, results, strict=True)} == EXPECTED
                assert results[0]["body"] == {"url": f"{url}/hello", "body": ""}
                assert "secret" not in answer.text
                assert client.get(f"{url}/hello").json() == results[0]["body"]


def test_bodies_paths_and_whole_errors(server: tuple[str, str]) -> None:
    _, url = server
    with httpx2.Client(timeout=30, trust_env=False, verify=TLS) as client:
        entries = [action("/hello", "post", data={"name": "ü" * 100_000}), action("/hello", data={"q": "ü"})]
        results = client.post(f"{url}/batch?limit=100", json={"data": {"actions": entries}}).json()["data"]
        assert len(results[0]["body"]["body"]) > 100_000
        assert results[1]["body"]["url"] == f"{url}/hello?q=%C3%BC"
        for content in (b"{", b'{"data":{"actions":[]}}'):
            assert client.post(f"{url}/batch", content=content, headers=JSON).status_code == 400
        assert client.get(f"{url}/batch").status_code == 405
    # Each on a connection of its own: they are answered before their body is read, and some servers close it then.
    for content, headers, status in ((b"{}", {}, 415), (b"x" * (2**20 + 1), JSON, 413)):
        answer = httpx2.post(f"{url}/batch", content=content, headers=headers, timeout=30, trust_env=False, verify=TLS)
        assert answer.status_code == status


def test_nine_results_are_there_while_the_tenth_waits(server: tuple[str, str]) -> None:
    """Section 6: “gets one line per result, as soon as the action has it”."""
    name, url = server
    for http2 in (False, True) if name.startswith("hypercorn") else (False,):
        with httpx2.Client(http1=not http2, http2=http2, timeout=30, trust_env=False, verify=TLS) as client:
            held = f"/held/{http2}"
            batch = {"data": {"actions": [action(held), *[action("/hello")] * 9]}}
            with client.stream("POST", f"{url}/batch", json=batch, headers={"accept": "application/x-ndjson"}) as answer:
                assert answer.headers["content-type"] == "application/x-ndjson"
                assert "content-length" not in answer.headers
                lines = answer.iter_lines()
                assert sorted(json.loads(next(lines))["index"] for _ in range(9)) == list(range(1, 10))
                assert httpx2.post(url + held, timeout=30, trust_env=False, verify=TLS).json() == 0
                assert [json.loads(line) for line in lines] == [{"index": 0, "status_code": 200, "headers": {}, "body": 1}]
            assert client.get(f"{url}/hello").status_code == 200


def test_a_client_that_leaves_its_stream_stops_no_action(server: tuple[str, str]) -> None:
    """Section 6: “A client that goes away or stops reading stops nothing but its own stream; actions run to their end.”"""
    _, url = server
    body = envelope(action("/hello"), action("/held/left"), action("/held/left"))
    with asking_for_lines(url, body) as connection:
        read_until(connection, b'{"index":0,')
    with httpx2.Client(timeout=30, trust_env=False, verify=TLS) as client:
        while client.post(f"{url}/held/left").json() < 2:
            pass
        assert client.get(f"{url}/hello").status_code == 200
