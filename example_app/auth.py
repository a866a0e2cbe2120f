"""Bearer tokens, which belong to users."""

from __future__ import annotations

from hashlib import sha256

from sqlalchemy import select
from sqlalchemy.orm import selectinload
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError
from starlette.requests import HTTPConnection

from example_app.database import Database
from example_app.models import Token, User


def digest(token: str) -> str:
    """What is kept of a token."""
    return sha256(token.encode()).hexdigest()


class BearerToken(AuthenticationBackend):
    """Makes the token's user the ``request.user``. A batch comes through here, and so does each of its actions."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, User]:
        scheme, _, token = conn.headers.get("authorization", "").partition(" ")
        statement = select(User).join(Token).where(Token.digest == digest(token))
        # A session of its own, not that of the request: a batch would keep the connection while its actions wait for one each,
        # and as many batches as there are connections would wait for each other forever.
        async with self.database.session() as session:
            user = await session.scalar(statement.options(selectinload(User.workspaces)))
        if user is None or scheme.lower() != "bearer":
            raise AuthenticationError("Not Authorized")
        return AuthCredentials(["authenticated"]), user
