"""Contract section 5, the answer."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import urllib.request
import zlib
from email.message import Message
from http.cookiejar import CookieJar
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import anyio
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from batchkit import BatchEndpoint, batchable
from batchkit._protocol.content import ESCAPED_MOST, LONG_TEXT, MOST_ESCAPED
from tests.asgi import request
from tests.batches import JSON, LINES, action, batch, envelope, lines, messages, post

pytestmark = pytest.mark.anyio

Headers = list[tuple[bytes, bytes]]
JSON_TYPE = (b"content-type", b"application/json")


def answering(*answers: tuple[int, Headers, bytes], **settings: Any) -> Starlette:
    """A host whose action ``/<index>/`` is answered with just these bytes."""
    app = Starlette()
    for index, (status, headers, body) in enumerate(answers):

        async def answer(
            scope: Scope, receive: Receive, send: Send, status: int = status, headers: Headers = headers, body: bytes = body
        ) -> None:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        app.mount(f"/{index}", batchable(answer))
    return BatchEndpoint(**settings).mount_to(app)


async def result_of(status: int, headers: Headers, body: bytes, method: str = "get", **settings: Any) -> dict[str, Any]:
    [result] = await batch(answering((status, headers, body), **settings), action("/0/", method))
    return result


async def test_the_answer_is_200_json_that_nobody_stores_or_sniffs() -> None:
    """“`200`, `application/json; charset=utf-8`, `Cache-Control: no-store`, `X-Content-Type-Options: nosniff`, `{”data“:[…]}`”."""
    answer = await post(answering((200, [JSON_TYPE], b"1")), envelope(action("/0/")))
    assert answer.status == 200
    assert sorted(answer.headers) == [
        (b"cache-control", b"no-store"),
        (b"content-length", b"%d" % len(answer.body)),
        (b"content-type", b"application/json; charset=utf-8"),
        (b"x-content-type-options", b"nosniff"),
    ]
    assert answer.body == b'{"data":[{"status_code":200,"headers":{},"body":1}]}'


async def test_exactly_one_result_per_action_in_order_with_exactly_three_keys() -> None:
    """“exactly one result per action, in the order of the actions”, “exactly these three keys”."""
    answers = [(200 + index, [JSON_TYPE], b"%d" % index) for index in range(9)]
    results = await batch(answering(*answers), *[action(f"/{index}/") for index in range(9)])
    assert results == [{"status_code": 200 + index, "headers": {}, "body": {} if index == 4 else index} for index in range(9)]


@pytest.mark.parametrize(
    "body",
    [
        b"123456789012345678901234567890",
        b'{"b":1.10,"a":1E400,"a":-0}',
        b" [ 1 ,\n 2 ]\r\n",
        b'"\\u00fc\\ud83d\\ude00\\/"',
        '"ü😀"'.encode(),
        b"null",
        b"false",
        b"[" * 500 + b"]" * 500,
    ],
)
@pytest.mark.parametrize("content_type", [b"application/json", b"application/problem+json; charset=utf-8", b"APPLICATION/JSON"])
async def test_json_stands_there_byte_for_byte(body: bytes, content_type: bytes) -> None:
    """“a JSON answer (strictly UTF-8, valid) stands there as JSON, byte for byte as the handler wrote it”."""
    answer = await post(answering((200, [(b"content-type", content_type)], body)), envelope(action("/0/")))
    assert answer.body == b'{"data":[{"status_code":200,"headers":{},"body":' + body + b"}]}"


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b"{",
        b"[1,]",
        b'"\\ud800"',
        b'{"a":1}}',
        b'1},{"status_code":200,"headers":{},"body":2',
        b"\xef\xbb\xbf1",
        b"[" * 100_000 + b"]" * 100_000,
        b"'x'",
        b" ",
    ],
)
async def test_what_calls_itself_json_and_is_not_is_a_string(body: bytes) -> None:
    """“What calls itself JSON and is not valid JSON stands there as a string: no handler can break the envelope”."""
    result = await result_of(200, [JSON_TYPE], body)
    assert result["body"] == body.decode()
    assert result["headers"] == {"content-type": "application/json"}
    assert list(result) == ["status_code", "headers", "body"]


@pytest.mark.parametrize(("status", "method"), [(200, "head"), (204, "get"), (304, "get"), (200, "get"), (404, "head")])
async def test_an_empty_body_is_an_empty_object(status: int, method: str) -> None:
    """“an empty one (HEAD, 204, 304 …) is `{}`”."""
    body = b"" if (status, method) == (200, "get") else b"ignored"
    assert await result_of(status, [JSON_TYPE], body, method) == {"status_code": status, "headers": {}, "body": {}}


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        (b"text/plain", "grüß".encode(), "grüß"),
        (b"text/html; charset=latin-1", "grüß".encode("latin-1"), "grüß"),
        (b'text/plain; Charset="UTF-16"', "grüß".encode("utf-16"), "grüß"),
        (b"text/csv", b"a,b", "a,b"),
        (b"text/plain; charset=ascii", b"a,b", "a,b"),
        (b"application/xml", b"<a/>", "<a/>"),
        (b"image/svg+xml", b"<a/>", "<a/>"),
        (b"application/javascript", b"x", "x"),
        (b"text/javascript", b"x", "x"),
        (b"application/x-www-form-urlencoded", b"a=b", "a=b"),
        (b"application/vnd.odd; charset=utf-8", b"x", "x"),
        (None, "ü".encode(), "ü"),
        (b"", b"x", "x"),
        (b"text/plain", b'</script>\x00\x1f"\\', '</script>\x00\x1f"\\'),
    ],
)
async def test_text_is_a_string(content_type: bytes | None, body: bytes, text: str) -> None:
    """“text (`text/*`, XML, JavaScript, form-urlencoded, anything with a charset, and what has no media type but is UTF-8) …”."""
    result = await result_of(200, [] if content_type is None else [(b"content-type", content_type)], body)
    assert result["body"] == text
    assert result["headers"] == ({} if content_type is None else {"content-type": content_type.decode()})


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"image/png", b"\x89PNG\x00"),
        (b"application/octet-stream", b"text"),
        (b"text/plain", b"\xff"),
        (b"text/plain; charset=utf-7x", b"x"),
        (b"text/plain; charset=ascii", "ü".encode()),
        (b"text/plain; charset=zlib", b"x"),
        (b"application/json", b"\xff"),
        (None, b"\xff\xfe"),
    ],
)
async def test_anything_else_is_base64(content_type: bytes | None, body: bytes) -> None:
    """“anything else, text that does not decode included, is base64”, “a fourth, `”body_encoding“:”base64“`”."""
    result = await result_of(200, [] if content_type is None else [(b"content-type", content_type)], body)
    assert list(result) == ["status_code", "headers", "body", "body_encoding"]
    assert (base64.b64decode(result["body"]), result["body_encoding"]) == (body, "base64")


@pytest.mark.parametrize(
    ("coding", "encode"),
    [(b"gzip", gzip.compress), (b"GZIP", gzip.compress), (b"deflate", zlib.compress), (b"x-gzip", gzip.compress)],
)
async def test_a_content_encoding_is_undone(coding: bytes, encode: Any) -> None:
    """“A `Content-Encoding` the handler applied itself is undone for gzip and deflate, within `max_result_size`”."""
    headers = [JSON_TYPE, (b"content-encoding", coding)]
    assert await result_of(200, headers, encode(b'{"a":1}')) == {"status_code": 200, "headers": {}, "body": {"a": 1}}
    assert (await result_of(200, headers, encode(b"0" * 5000), max_result_size=4999))["status_code"] == 502
    assert (await result_of(200, headers, encode(b" " * 5000), max_result_size=5000))["status_code"] == 200


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, br", b"gzip"])
async def test_another_content_encoding_leaves_base64(coding: bytes) -> None:
    """“another one leaves base64 and its `content-encoding` header”; so does one that is broken."""
    result = await result_of(200, [JSON_TYPE, (b"content-encoding", coding)], b"\x1b\x00broken")
    assert base64.b64decode(result["body"]) == b"\x1b\x00broken"
    assert result["body_encoding"] == "base64"
    assert result["headers"] == {"content-type": "application/json", "content-encoding": coding.decode()}


SHOWN = [
    "location",
    "content-location",
    "etag",
    "last-modified",
    "retry-after",
    "link",
    "allow",
    "www-authenticate",
    "content-disposition",
    "content-language",
    "deprecation",
    "sunset",
    "x-total-count",
    "x-request-id",
]
KEPT_BACK = ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authenticate", "content-length"]


async def test_headers_are_shown_by_an_allow_list() -> None:
    """“`headers`: what is specific to this result …, by an allow-list: …”, “{lower-case name: string}”."""
    names = [*SHOWN, *KEPT_BACK, "date", "server", "x-secret", "cache-control", "set-cookie"]
    headers = [(name.title().encode(), b"v") for name in names]
    result = await result_of(200, [*headers, JSON_TYPE], b"{}")
    assert result["headers"] == dict.fromkeys(SHOWN, "v")


async def test_result_headers_adds_names_or_all() -> None:
    """“`result_headers=` adds names, or `”*“` for all but hop-by-hop, `content-length`, `content-encoding`, `date`, `server`”."""
    names = ["location", "x-one", "x-two", *KEPT_BACK, "date", "server", "set-cookie"]
    headers = [(name.encode(), b"v") for name in names]
    assert (await result_of(200, headers, b"", result_headers=["X-One"]))["headers"] == {
        "location": "v",
        "x-one": "v",
    }
    shown = {"location": "v", "x-one": "v", "x-two": "v"}
    assert (await result_of(200, headers, b"", result_headers="*"))["headers"] == shown
    with_type = await result_of(200, [*headers, (b"content-type", b"text/plain")], b"x", result_headers="*")
    assert with_type["headers"] == {**shown, "content-type": "text/plain"}


async def test_repeated_fields_are_joined() -> None:
    """“Repeated fields are joined with `, `”."""
    result = await result_of(200, [(b"link", b"<a>"), (b"etag", b"e"), (b"Link", b"<b>")], b"")
    assert result["headers"] == {"link": "<a>, <b>", "etag": "e"}


async def test_set_cookie_goes_to_the_batchs_own_answer_in_action_order() -> None:
    """“`Set-Cookie` of an action goes to the batch's own answer, in action order, and never into the JSON”.

    Security: “Cookies never stand in the JSON.”
    """
    app = answering(
        (200, [(b"set-cookie", b"a=1; HttpOnly"), (b"set-cookie", b"b=2")], b""),
        (200, [], b""),
        (500, [(b"Set-Cookie", b"c=3")], b"x"),
        result_headers="*",
    )
    answer = await post(app, envelope(action("/2/"), action("/1/"), action("/0/")))
    assert answer.all(b"set-cookie") == [b"c=3; Path=/2", b"a=1; HttpOnly; Path=/0", b"b=2; Path=/0"]
    assert b"HttpOnly" not in answer.body
    assert b"c=3" not in answer.body


def setting(*cookies: bytes, **settings: Any) -> Starlette:
    """A host whose actions ``/<index>/`` and whatever is below set one cookie each."""
    return answering(*((200, [(b"set-cookie", cookie)], b"") for cookie in cookies), **settings)


@pytest.mark.parametrize(
    ("cookies", "sent"),
    [
        # As sessions are renewed.
        ([b"s=%d; path=/; Max-Age=9; httponly; samesite=lax" % number for number in range(10)], [9]),
        # The order is that of those that stay.
        ([b"a=1; Path=/", b"b=1; Path=/", b"a=2; Path=/"], [1, 2]),
        # Other names, paths and domains are other cookies: names and paths with their case.
        ([b"a=1; Path=/", b"A=1; Path=/"], [0, 1]),
        ([b"a=1; Path=/x", b"a=1; Path=/X", b"a=1; Path=/x/", b"a=1; Path=/"], [0, 1, 2, 3]),
        ([b"a=1; Path=/; Domain=a.example", b"a=1; Path=/; Domain=b.example", b"a=1; Path=/"], [0, 1, 2]),
        # Attributes, and the domain, are read without regard to case, space and a first dot.
        ([b"a=1; Path=/", b"a=2;path=/;Secure", b"a = 3 ; HttpOnly ;\tPATH\t=  / \t; Max-Age=0"], [2]),
        ([b"a=1; Path=/; Domain=A.example", b"a=2;domain= .a.EXAMPLE ;path=/"], [1]),
        # An empty domain is that of the host.
        ([b"a=1; Path=/", b"a=1; Path=/; Domain="], [1]),
        # A browser keeps these apart: who moves a cookie from one to the other sets both.
        ([b"a=; Path=/; Max-Age=0", b"a=1; Path=/; Partitioned", b"a=2; Path=/; partitioned; Secure"], [0, 2]),
        # Of an attribute that stands twice the last one counts.
        ([b"a=1; Path=/x; Path=/y", b"a=1; Path=/y", b"a=1; Path=/x"], [1, 2]),
        ([b"a=1; Path=/; Domain=x.example; Domain=y.example", b"a=1; Path=/; Domain=y.example"], [1]),
        # What only looks like one is none.
        ([b"a=1; Path=/; Pathology=/x; xPath=/y", b"a=path=/z; Path=/"], [1]),
        ([b"a=Domain=x; Path=/", b"a=1; Path=/; Expires=Wed, 01 Jan 2031 00:00:00 GMT"], [1]),
        # A cookie may have no name, or "=" in its value; an empty value is one.
        ([b"a=1=2; Path=/", b"a=; Path=/", b"=a; Path=/", b"a; Path=/"], [1, 3]),
    ],
)
async def test_of_several_cookies_with_the_same_name_domain_and_path_the_last_goes_out(
    cookies: list[bytes], sent: list[int]
) -> None:
    """“Of several with the same name, domain and path only the last goes out (ten renewed sessions would overflow …)”."""
    body = envelope(*[action(f"/{index}/") for index in range(len(cookies))])
    for app, fields in (setting(*cookies), []), (setting(*cookies), [LINES]):
        answer = await post(app, body, headers=fields)
        assert answer.all(b"set-cookie") == [cookies[index] for index in sent]
    # Those of one answer are no others.
    answer = await post(answering((200, [(b"set-cookie", cookie) for cookie in cookies], b"")), envelope(action("/0/")))
    assert answer.all(b"set-cookie") == [cookies[index] for index in sent]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/0/", b"/0"),
        ("/0/x", b"/0"),
        ("/0/x/", b"/0/x"),
        ("/0/x//", b"/0/x/"),
        ("/0/a%20b/%C3%BC/x", b"/0/a%20b/%C3%BC"),
        ("/0/\u00fc/x", b"/0/%C3%BC"),
        ("/0/%2F/x", b"/0/%2F"),
        ("/0/a,b=c/x", b"/0/a,b=c"),
        # An attribute ends at this, so that more could be made of it.
        ("/0/x;Domain=example.org/y", b"/0/x%3BDomain=example.org"),
    ],
)
@pytest.mark.parametrize(
    "cookie", [b"a=1", b"a=1; HttpOnly", b"a=1; Path", b"a=1; Path=", b"a=1; Path=x", b"a=1; path=/y; Path= x "]
)
async def test_a_cookie_without_a_path_gets_that_of_its_action(cookie: bytes, path: str, expected: bytes) -> None:
    """“a cookie without a `Path` gets the one that a browser would have given it for the action's own path” (RFC 6265, 5.1.4)."""
    answer = await post(setting(cookie), envelope(action(path)))
    assert answer.all(b"set-cookie") == [cookie + b"; Path=" + expected]


@pytest.mark.parametrize("root_path", ["", "/proxy"])
async def test_the_path_of_a_cookie_is_a_whole_one(root_path: str) -> None:
    """“… for the action's own path”: with what the API is below, and at the top, where there is no directory."""

    async def login(request: Request) -> Response:
        return Response(headers={"set-cookie": "a=1"})

    app = Starlette(routes=[Route("/api/1.0/login", batchable(login)), Route("/top", batchable(login))])
    BatchEndpoint().mount_to(app, "/api/1.0/batch")
    BatchEndpoint().mount_to(app, "/batch")
    for batch_path, path, expected in (("/api/1.0/batch", "/login", "/api/1.0"), ("/batch", "/top", "")):
        body = envelope(action(path))
        answer = await request(app, "POST", batch_path, headers=[(b"host", b"h"), JSON], body=body, root_path=root_path)
        assert answer.all(b"set-cookie") == [b"a=1; Path=" + (f"{root_path}{expected}" or "/").encode()]


def test_a_jar_holds_after_a_batch_what_it_holds_after_each_alone() -> None:
    """Section 2: “an action behaves exactly as the same request sent alone”; the standard library's jar judges what goes where."""
    cookies = ["a=1", "a=2; Path=/x", "a=3", "b=1; Path=/", "b=2; Path=/; HttpOnly", "c=1; path=/0/x", "a=4; Max-Age=60"]
    paths = ["/0/x/y", "/1/", "/2/x/z", "/3/", "/4/q", "/5/", "/6/x/"]

    def jar(*asked: tuple[str, list[str]]) -> set[tuple[Any, ...]]:
        held = CookieJar()
        for path, set_cookies in asked:
            message = Message()
            for cookie in set_cookies:
                message["set-cookie"] = cookie
            response = SimpleNamespace(info=lambda message=message: message)
            held.extract_cookies(response, urllib.request.Request(f"https://api.example{path}"))  # type: ignore[arg-type]
        return {(each.name, each.value, each.domain, each.path) for each in held}

    async def batched() -> list[str]:
        answer = await post(setting(*(cookie.encode() for cookie in cookies)), envelope(*map(action, paths)))
        return [cookie.decode() for cookie in answer.all(b"set-cookie")]

    alone = jar(*((path, [cookie]) for path, cookie in zip(paths, cookies, strict=True)))
    assert jar(("/batch", anyio.run(batched))) == alone


# The size of what stands there


def test_the_bytes_that_become_six_are_those_that_the_encoder_writes_so() -> None:
    assert [len(msgspec.json.encode(chr(byte))) - 2 == MOST_ESCAPED for byte in range(128)] == [
        bytes([byte]) in ESCAPED_MOST for byte in range(128)
    ]


SIZES = [1, 3, 9, 100, LONG_TEXT + 1]
SHARES = [0.1, 0.16, 0.2, 0.78, 1.0]
ESCAPED = ["\x01", "\x1f", "\n", '"', "\\", "\x7f", "é"]


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "utf-16", ""])
async def test_text_that_would_be_much_longer_as_a_string_is_base64(charset: str) -> None:
    """“Text becomes base64 where its JSON string would be longer than 4/3 of its base64”, in lines as well."""
    content_type = f"text/plain; charset={charset}" if charset else "application/json"
    field = (b"content-type", content_type.encode())
    texts = [(escaped * int(size * share)).ljust(size, "x") for size, share, escaped in itertools.product(SIZES, SHARES, ESCAPED)]
    bodies = [text.encode(charset or "utf-8") for text in texts]
    app = answering(*((200, [field], body) for body in bodies), max_actions=len(texts))
    actions = [action(f"/{index}/") for index in range(len(texts))]
    streamed = await post(app, envelope(*actions), headers=[LINES])
    expected: list[dict[str, Any]] = []
    for text, body in zip(texts, bodies, strict=True):
        as_string, as_base64 = json.dumps(text, ensure_ascii=False).encode(), b'"%b"' % base64.b64encode(body)
        stands = {"body": text}
        if 3 * len(as_string) > 4 * len(as_base64):
            stands = {"body": as_base64[1:-1].decode(), "body_encoding": "base64"}
        expected.append({"status_code": 200, "headers": {"content-type": content_type}, **stands})
    assert await batch(app, *actions) == expected
    assert sorted(lines(streamed.body), key=itemgetter("index")) == [
        {"index": index, **result} for index, result in enumerate(expected)
    ]
    assert {"body_encoding" in result for result in expected} == {True, False}


LIMIT = 1200
TOO_LARGE = f"The result is larger than {LIMIT:,} bytes"


@pytest.mark.parametrize(
    ("content_type", "body", "fits"),
    [
        # What stands as it is may be just as large.
        (b"application/json", b'"' + b"x" * (LIMIT - 2) + b'"', True),
        (b"application/json", b'"' + b"x" * (LIMIT - 1) + b'"', False),
        (b"text/plain", b"x" * LIMIT, True),
        (b"text/plain", b"x" * (LIMIT + 1), False),
        # Each escape counts.
        (b"text/plain", b"x" * (LIMIT - 2) + b"\n", True),
        (b"text/plain", b"x" * (LIMIT - 1) + b"\n", False),
        (b"text/plain", b'"' * 60 + b"x" * (LIMIT - 120), True),
        (b"text/plain", b'"' * 61 + b"x" * (LIMIT - 121), False),
        (b"text/plain", b"\x01" * 40 + b"x" * (LIMIT - 240), True),
        (b"text/plain", b"\x01" * 40 + b"x" * (LIMIT - 239), False),
        # Other charsets, in UTF-8.
        (b"text/plain; charset=latin-1", b"\xe9" * 300 + b"x" * 600, True),
        (b"text/plain; charset=latin-1", b"\xe9" * 300 + b"x" * 601, False),
        (b"text/plain; charset=utf-16-le", b"x\0" * 600, True),
        # base64 is a third larger.
        (b"image/png", b"\x89" * 900, True),
        (b"image/png", b"\x89" * 901, False),
        (b"image/png", b"\x89" * LIMIT, False),
        (None, b"\xff" * 901, False),
        # And so is text that becomes base64.
        (b"text/plain", b"\x01" * 900, True),
        (b"text/plain", b"\x01" * 901, False),
        (b"text/plain", b'"' * 901, False),
        (b"application/x-www-form-urlencoded", b"\0" * 901, False),
        # JSON that is none.
        (b"application/json", b'{"' * 300 + b"x" * 300, True),
        (b"application/json", b'{"' * 300 + b"x" * 301, False),
        (b"application/problem+json", b"\x01" * 901, False),
    ],
)
@pytest.mark.parametrize("coding", [None, b"gzip"])
async def test_a_result_counts_as_it_stands_in_the_answer(
    content_type: bytes | None, body: bytes, fits: bool, coding: bytes | None
) -> None:
    """“what stands in the answer counts against `max_result_size`”: 502 in its place, in lines as well; the others stand."""
    fields = [] if content_type is None else [(b"content-type", content_type)]
    sent = body
    if coding is not None:
        fields, sent = [*fields, (b"content-encoding", coding)], gzip.compress(body)
    app = answering((200, fields, sent), (200, [JSON_TYPE], b"1"), max_result_size=LIMIT)
    plain = await post(app, envelope(action("/0/"), action("/1/")))
    streamed = await post(app, envelope(action("/0/"), action("/1/")), headers=[LINES])
    for result, other in plain.json()["data"], sorted(lines(streamed.body), key=lambda line: int(line.pop("index"))):
        assert other == {"status_code": 200, "headers": {}, "body": 1}
        assert result["status_code"] == (200 if fits else 502)
        if fits:
            assert len(json.dumps(result["body"], ensure_ascii=False).encode()) <= LIMIT + 2
        else:
            assert messages(result)[0].startswith(TOO_LARGE)


async def test_what_has_answered_too_much_works_on_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """Section 4: “A background task of an action neither delays the answer nor is cut …”; the log says what the client got."""
    caplog.set_level("INFO", "batchkit")
    ran = []

    async def afterwards(size: int) -> None:
        await anyio.lowlevel.checkpoint()
        ran.append(size)

    async def large(request: Request) -> Response:
        size = int(request.path_params["size"])
        return Response(b"\x89" * size, media_type="image/png", background=BackgroundTask(afterwards, size))

    app = BatchEndpoint(max_result_size=LIMIT).mount_to(Starlette(routes=[Route("/{size:int}", batchable(large))]))
    results = await batch(app, action(f"/{LIMIT}"), action(f"/{LIMIT + 1}"), action("/1"))
    assert [result["status_code"] for result in results] == [502, 502, 200]
    assert sorted(ran) == [1, LIMIT, LIMIT + 1]
    assert [vars(record)["statuses"] for record in caplog.records if "statuses" in vars(record)] == [[502, 502, 200]]


async def test_a_header_value_that_is_not_ascii_stands_as_latin_1() -> None:
    result = await result_of(200, [(b"etag", b"\xfc")], b"")
    assert result["headers"] == {"etag": "ü"}


async def test_a_mounted_static_answer_is_complete() -> None:
    """A file goes through in full: actions are offered no extension by which a path could be sent in place of bytes."""
    content = b"x" * 300_000

    async def file(scope: Scope, receive: Receive, send: Send) -> None:
        assert "extensions" not in scope
        await Response(content, media_type="application/octet-stream")(scope, receive, send)

    app = Starlette(routes=[Mount("/file", batchable(file))])
    BatchEndpoint().mount_to(app)
    [result] = await batch(app, action("/file/"))
    assert base64.b64decode(result["body"]) == content


async def test_no_key_stands_beside_data() -> None:
    """“No `next_page` and no other key beside `data` (the official clients would ask again)”."""
    answer = await post(answering((200, [JSON_TYPE], b'{"data":[],"next_page":{"offset":"x"}}')), envelope(action("/0/")))
    assert list(json.loads(answer.body)) == ["data"]
