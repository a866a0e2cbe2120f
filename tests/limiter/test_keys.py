"""Whom a limit counts: clients, not spellings (protocol.md#admission)."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import itsdangerous
import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser, UnauthenticatedUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import Batch, BatchEndpoint, TooManyRequests
from batchkit.limiter import Concurrency, Limiter, LimitMiddleware, Rate, by_address, by_client, by_token
from batchkit.limiter.keys import key_of
from batchkit.limiter.stores.memory import MemoryStore
from batchkit.model import Action
from tests.asgi import request
from tests.batches import action, envelope, post
from tests.redises import RedisServer

pytestmark = pytest.mark.anyio

ABSENT = object()
ADDRESS = "address:10.0.0.1"


def of(*fields: bytes, user: Any = ABSENT, client: Any = ("10.0.0.1", 1)) -> Request:
    """A request with these ``Authorization`` fields and this user."""
    scope: dict[str, Any] = {"type": "http", "headers": [(b"authorization", field) for field in fields], "client": client}
    return Request(scope if user is ABSENT else {**scope, "user": user})


class Known(BaseUser):
    """As hosts write it with Starlette, with an identity that may be anything."""

    def __init__(self, identity: Any, name: str = "Ann") -> None:
        self.given, self.name = identity, name

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self.name

    @property
    def identity(self) -> str:
        return self.given  # type: ignore[no-any-return]


@dataclass
class Row:
    """A user as a database has one."""

    id: int
    email: str = "ann@example.com"


class Bare(BaseUser):
    """What a host needs not write, it has not written."""

    id = 7


USERS = [
    ("ann", "user:ann"),
    (b"ann", "user:ann"),
    (7, "user:7"),
    (0, "user:0"),
    (UUID(int=7), "user:00000000-0000-0000-0000-000000000007"),
    (Known("ann"), "user:ann"),
    (Known(7), "user:7"),
    (Known("", "Ann"), "user:Ann"),
    (Known(None, "Ann"), "user:Ann"),
    (SimpleUser("ann"), "user:ann"),
    ({"identity": "ann", "id": 7}, "user:ann"),
    ({"display_name": "Ann"}, "user:Ann"),
    ({"sub": "ann", "exp": 1}, "user:ann"),
    ({"id": 7, "is_authenticated": True}, "user:7"),
    (Row(7), "user:7"),
    (SimpleNamespace(username="ann"), "user:ann"),
    (Bare(), "user:7"),
]


@pytest.mark.parametrize(("user", "key"), USERS, ids=[f"{index}" for index in range(len(USERS))])
@pytest.mark.parametrize("fields", [(), (b"Bearer made-up",)])
def test_the_identity_that_the_host_established_comes_first(user: Any, key: str, fields: Any) -> None:
    """“The default key is a client's identity as the host established it (`scope["user"]`)”; “The text of an established identity
    is the user's `identity`, else `display_name`”.
    """
    assert Rate(1, 1, name="a").key is by_client
    assert by_client(of(*fields, user=user)) == key


NOBODY = [ABSENT, None, False, "", b"", {}, UnauthenticatedUser(), {"is_authenticated": False, "identity": "x"}]


@pytest.mark.parametrize("user", NOBODY, ids=map(str, range(len(NOBODY))))
def test_an_unauthenticated_user_is_none(user: Any) -> None:
    """“… else its one bearer token, else its address”; “an unauthenticated user is none”."""
    assert by_client(of(b"Bearer ann", user=user)) == by_token(of(b"Bearer ann")) != ADDRESS
    assert by_client(of(user=user)) == ADDRESS


@pytest.mark.parametrize("user", [object(), {"name": "Ann"}, Known(object(), ""), True, [7], BaseUser()])
def test_of_a_user_without_a_name_the_address_counts(user: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Not a token, which anybody may add to what the host knows them by; and the host's own are told."""
    assert by_client(of(b"Bearer made-up", user=user)) == ADDRESS
    assert by_client(of(b"Bearer other", user=user)) == ADDRESS


def test_a_user_without_a_name_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    class Account:
        pass

    for _ in range(3):
        by_client(of(user=Account()))
    assert caplog.text.count("scope['user'] is a Account without identity, display_name") == 1


class Backend(AuthenticationBackend):
    """By the API key; anybody else is nobody."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        return (AuthCredentials(), SimpleUser(conn.headers["x-api-key"])) if "x-api-key" in conn.headers else None


async def hello(request: Request) -> Response:
    return Response()


async def test_batches_and_direct_requests_of_one_identity_share_a_limit_whatever_they_add() -> None:
    """“Direct requests and batches share the same counters”, of an identity as of all else."""
    limiter = Limiter([Rate(4, 3600, name="requests")])
    around = [Middleware(AuthenticationMiddleware, backend=Backend()), Middleware(LimitMiddleware, limiter=limiter)]
    app = BatchEndpoint(policy="all", cost_hook=limiter).mount_to(Starlette(routes=[Route("/x", hello)], middleware=around))

    def fields(index: int, name: bytes = b"ann") -> list[tuple[bytes, bytes]]:
        return [(b"x-api-key", name), (b"authorization", b"Bearer %d" % index)]

    assert (await post(app, envelope(action("/x"), action("/x")), headers=fields(1))).status == 200
    assert [(await request(app, "GET", "/x", headers=fields(index))).status for index in range(3)] == [200, 200, 429]
    assert (await post(app, envelope(action("/x")), headers=fields(9))).status == 429
    assert (await request(app, "GET", "/x", headers=fields(1, b"bob"))).status == 200


# Tokens


def test_two_fields_are_no_token() -> None:
    """“two `Authorization` fields count as none”: a host may read the first or the last."""
    for fields in ([b"Bearer a", b"Bearer b"], [b"Bearer a", b"Basic x"], [b"", b"Bearer b"], [b"Bearer a, Bearer b"]):
        assert by_token(of(*fields)) == ADDRESS


@pytest.mark.parametrize(
    "value", [b"", b"Bearer", b"Bearer ", b"Basic x", b"Bearer a b", b"Bearer a,b", b"Bearer ==", b"Bearer a=b"]
)
def test_what_is_not_one_token_is_none(value: bytes) -> None:
    assert by_token(of(value)) == ADDRESS


@pytest.mark.parametrize(
    "value", [b"bearer ann", b"BEARER ann", b"  Bearer\t ann  ", b"Bearer ann=", b"Bearer ann====", b"Bearer ann\xa0"]
)
def test_spellings_of_a_token_are_one(value: bytes) -> None:
    """“a token is compared without what lax decoders ignore (surrounding space, `=` padding)”."""
    assert by_token(of(value)) == by_token(of(b"Bearer ann"))


DIFFERENT = [
    b"ann",
    b"Ann",
    b"anna",
    b"0/123456789abcdef",
    b"1/123456789:abcdef",
    b"token-1",
    b"token-2",
    b"00000000-0000-0000-0000-000000000001",
    b"00000000-0000-0000-0000-000000000002",
    b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.Jw3Pz6sRtcKqSiEYjb2pJzF3nDkgWFiYYDDWCLdNXHk",
    b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJiIn0.Jw3Pz6sRtcKqSiEYjb2pJzF3nDkgWFiYYDDWCLdNXHk",
    b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.Jw3Pz6sRtcKqSiEYjb2pJzF3nDkgWFiYYDDWCLdNXAk",
]


def test_different_tokens_stay_different_and_are_no_secret_in_a_store() -> None:
    keys = [by_token(of(b"Bearer " + token)) for token in DIFFERENT]
    assert len(set(keys)) == len(DIFFERENT)
    for token, key in zip(DIFFERENT, keys, strict=True):
        assert token.decode() not in key
        assert len(key) < 64


def spellings(token: bytes) -> Iterator[bytes]:
    """What an attacker may make of a signed token: one byte more anywhere, another last one, or some end."""
    for place in range(token.rindex(b".") + 1, len(token) + 1):
        for byte in range(256):
            # Four, as some pad by the length that a text has before what is foreign in it is dropped.
            for times in (1, 4):
                yield token[:place] + bytes([byte]) * times + token[place:]
    for byte in range(256):
        yield token[:-1] + bytes([byte])
    for end in (b"=", b"==", b"=" * 50, b"=x", b"=.x", b"==x=y", b"=" + token, b"~~~", b" =", b"%3D"):
        yield token + end
    yield token.replace(b"-", b"+").replace(b"_", b"/")


@pytest.mark.parametrize("decodes", ["itsdangerous", "jwt"])
def test_no_spelling_of_a_signature_makes_a_key_of_its_own(decodes: str) -> None:
    """Each that a lax decoder takes for the same token counts as it, or by address: so clients have no keys to choose from."""
    # One whose signature has all letters that there are two of.
    signer = next(it for it in map(itsdangerous.URLSafeSerializer, map(str, range(1000))) if {*"-_"} <= {*it.dumps("mallory")})
    token = signer.dumps("mallory").encode()
    signature = token.rpartition(b".")[2]

    def is_same(spelling: bytes) -> bool:
        if decodes == "itsdangerous":
            with contextlib.suppress(itsdangerous.BadData):
                return bool(signer.loads(spelling.decode("latin-1")) == "mallory")
            return False
        # As PyJWT has it.
        head, _, tail = spelling.rpartition(b".")
        with contextlib.suppress(binascii.Error):
            value = base64.urlsafe_b64decode(tail + b"=" * (-len(tail) % 4))
            return head == token.rpartition(b".")[0] and value == base64.urlsafe_b64decode(
                signature + b"=" * (-len(signature) % 4)
            )
        return False

    taken = [spelling for spelling in spellings(token) if is_same(spelling)]
    assert len(taken) > 5000
    assert {by_token(of(b"Bearer " + spelling)) for spelling in taken} == {by_token(of(b"Bearer " + token)), ADDRESS}


# Addresses


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("2001:db8:1:2::1", "2001:0DB8:0001:0002::9"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:a00:1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("[2001:db8:1:2::1]:443", "2001:db8:1:2::2"),
        ("10.0.0.1:51234", "10.0.0.1:51235"),
    ],
)
def test_spellings_of_an_address_are_one(one: str, other: str) -> None:
    """“IPv6 addresses count by /64.” What is mapped into them is its IPv4 address."""
    assert by_address(of(client=(one, 1))) == by_address(of(client=(other, 2)))


def test_different_addresses_stay_different() -> None:
    hosts = [
        "10.0.0.1",
        "10.0.0.2",
        "2001:db8:1:2::1",
        "2001:db8:1:3::1",
        "::ffff:10.0.0.3",
        "testclient",
        "a:b",
        "é::1",
        "\0::",
        "",
    ]
    assert len({by_address(of(client=(host, 1))) for host in hosts}) == len(hosts)
    assert by_address(of(client=("2001:db8:1:2::1", 1))) == "address:2001:0db8:0001:0002::/64"
    assert by_address(of(client=None)) == by_address(of(client=(None, None))) == "address:"


# Keys and names


def test_keys_of_different_kinds_never_collide() -> None:
    token = by_token(of(b"Bearer ann"))
    users = [by_client(of(user=text)) for text in (token, ADDRESS, "10.0.0.1", "ann", token.partition(":")[2], "user:ann")]
    tokens = [by_client(of(b"Bearer " + text.encode())) for text in ("ann", "10.0.0.1", "user:ann")]
    assert len({*users, *tokens, ADDRESS}) == 10


def key(text: str) -> str | None:
    return key_of(lambda request: text, of(), "a")


def test_a_key_that_is_cut_short_equals_no_other() -> None:
    """A client whose name is the digest of another's would share its limit."""
    long = key("x" * 10**6)
    assert long is not None
    keys = [long, key(long), key(long[1:]), key("#"), key("\ud800"), key("\udc00"), key("é"), key("x" * 64), key("x" * 65)]
    assert len(set(keys)) == len(keys)
    assert all(one is not None and one.isascii() and len(one) <= 64 for one in keys)


@pytest.mark.parametrize("over_redis", [False, True])
async def test_names_of_limits_and_keys_cannot_collide(over_redis: bool, request: pytest.FixtureRequest) -> None:
    """The name of one limit with a key is not the name of another with another key, in any store."""
    store = request.getfixturevalue("redis").url if over_redis else MemoryStore()

    def limits(name: str, key: str) -> list[Any]:
        function = lambda request: key  # noqa: E731
        return [Rate(1, 3600, name=name, key=function), Concurrency(1, name=f"{name}:slots", key=function)]

    pairs = [
        ("a:b", "c"),
        ("a", "b:c"),
        ("a", "b:c:"),
        ("a%3Ab", "c"),
        ("a:b", ":c"),
        ("a}:{b", "c"),
        ("a:", "b:c"),
        ("é", "\ud800"),
    ]
    async with contextlib.AsyncExitStack() as stack:
        for name, text in pairs:
            limiter = await stack.enter_async_context(Limiter(limits(name, text), store))
            await stack.enter_async_context(limiter(Batch({"type": "http", "headers": []}, [Action(0, "GET", "/x")])))
            with pytest.raises(TooManyRequests):
                await limiter(Batch({"type": "http", "headers": []}, [Action(0, "GET", "/x")])).__aenter__()


@pytest.mark.parametrize("over_redis", [False, True])
async def test_a_key_that_is_none_is_not_counted_by_that_limit(over_redis: bool, request: pytest.FixtureRequest) -> None:
    """“A key that is None: that limit does not count this request.”"""

    def guests(request: Request) -> str | None:
        return None if "x-staff" in request.headers else by_address(request)

    redis: RedisServer | None = request.getfixturevalue("redis") if over_redis else None
    limits = [Rate(1, 3600, name="guests", key=guests), Concurrency(1, name="g", key=guests), Rate(9, 3600, name="all")]
    limiter = Limiter(limits, redis.url if redis is not None else None)
    around = [Middleware(LimitMiddleware, limiter=limiter, limiter_timeout=20)]
    app = Starlette(routes=[Route("/x", hello)], middleware=around)
    BatchEndpoint(policy="all", cost_hook=limiter, limiter_timeout=20).mount_to(app)
    staff = [(b"x-staff", b"1")]
    async with limiter:
        assert (await post(app, envelope(*[action("/x")] * 3), headers=staff)).status == 200
        assert [await status(app, staff) for _ in range(3)] == [200] * 3
        assert [await status(app, []) for _ in range(2)] == [200, 429]
        # The other limit counts them all.
        assert (await post(app, envelope(*[action("/x")] * 3), headers=staff)).status == 429


async def status(app: ASGIApp, headers: Any) -> int:
    return (await request(app, "GET", "/x", headers=headers)).status


async def test_a_limiter_outside_of_the_authentication_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Direct requests are then counted by what they say of themselves, batches by who they are: two budgets for one client."""

    class Auth:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app({**scope, "user": "ann"}, receive, send)

    for order in ((Auth, LimitMiddleware), (LimitMiddleware, Auth)):
        caplog.clear()
        limiter = Limiter([Rate(9, 60, name="a")])
        around = [Middleware(each, **({"limiter": limiter} if each is LimitMiddleware else {})) for each in order]
        app = BatchEndpoint(policy="all", cost_hook=limiter).mount_to(Starlette(routes=[Route("/x", hello)], middleware=around))
        for _ in range(2):
            assert (await post(app, envelope(action("/x")))).status == 200
        assert caplog.text.count("scope['user'] is there for batches, and not yet for LimitMiddleware") == (order[0] is not Auth)
