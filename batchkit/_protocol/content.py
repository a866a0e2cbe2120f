"""The content of one answer: its coding undone, and its place in the JSON of the batch's answer (protocol.md#the-answer)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import msgspec
from msgspec import Raw

from batchkit.errors import ResultTooLarge

__all__ = [
    "MOST_ESCAPED",
    "check_size",
    "is_charset",
    "is_json",
    "is_json_type",
    "media_type",
    "on_one_line",
    "render",
    "undo_coding",
]

_TEXT_TYPES = frozenset(
    {"application/x-www-form-urlencoded", "application/javascript", "application/ecmascript", "application/xml"}
)

MOST_MEMBERS = 16

# In bytes. A handler may say of a file what a client said of it, at any length.
LONGEST_KNOWN = 256
# The bytes that one of text may become in JSON, as "\u0001", and those that do.
MOST_ESCAPED = 6
ESCAPED_MOST = bytes(set(range(32)) - set(b"\b\t\n\f\r"))
# From here on, to count these bytes first costs little; to write six for each of them costs more than all else.
LONG_TEXT = 2**14

_JSON_TYPE = re.compile(r"application/(?:[a-z0-9!#$&^_.-][a-z0-9!#$&^_.+-]*\+)?json").fullmatch
# What texts come in on the web. Python knows more: some take quadratic time, and each unknown name is remembered for ever.
is_charset = re.compile(
    r"(?:us-)?ascii|utf-?8|utf-?(?:16|32)(?:-?[lb]e)?|iso-8859-[0-9]{1,2}|windows-(?:125[0-8]|874)|koi8-[ru]"
    r"|shift[_-]jis|euc-(?:jp|kr)|iso-2022-jp|gbk|gb2312|gb18030|big5|latin-?1"
).fullmatch

# How the content of an answer stands in that of the batch.
Form = Literal["json", "string", "base64"]

_json = msgspec.json.Decoder(Raw)
_encode = msgspec.json.Encoder().encode


def media_type(content_type: bytes) -> tuple[str, dict[str, str]]:
    """The media type and the parameters of a ``Content-Type``, all in lower case; of two of a name, the first."""
    essence, *entries = content_type.decode("latin-1").lower().split(";")
    parameters: dict[str, str] = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        parameters.setdefault(name.strip(), value.strip().strip('"'))
    return essence.strip(), parameters


def is_json_type(essence: str) -> bool:
    """Whether a media type in lower case is ``application/json`` or ``application/*+json``."""
    return _JSON_TYPE(essence) is not None


def is_json(content: bytes) -> bool:
    """Whether ``content`` is JSON (RFC 8259) in valid UTF-8, without lone surrogates, so that it may stand in other JSON."""
    try:
        # msgspec checks escapes and structure of what it keeps raw, but not its UTF-8.
        if not content.isascii():
            content.decode()
        _json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def on_one_line(content: bytes) -> bytes:
    """JSON without the space between its tokens, which stay as they are."""
    try:
        return msgspec.json.format(content, indent=-1)
    except RecursionError:
        # At the last depth that the decoder takes. A string holds no such byte.
        return content.translate(None, b"\t\r\n")


def undo_coding(coding: bytes, content: bytes, limit: int) -> bytes | None:
    """``content`` without its gzip or deflate ``Content-Encoding``; None for another coding, or broken content.

    Raises ResultTooLarge where more than ``limit`` bytes come out.
    """
    coding = coding.strip().lower()
    if coding in (b"", b"identity"):
        return content
    if coding not in (b"gzip", b"x-gzip", b"deflate"):
        return None
    plain = b""
    # Gzip may come in members, one after another; each costs a copy of the rest.
    for _ in range(MOST_MEMBERS):
        # 32 + wbits: zlib tells gzip from deflate by the header.
        decompressor = zlib.decompressobj(32 + zlib.MAX_WBITS)
        try:
            plain += decompressor.decompress(content, limit + 1 - len(plain))
        except zlib.error:
            return None
        if len(plain) > limit:
            raise ResultTooLarge(limit)
        content = decompressor.unused_data
        if not content:
            return plain if decompressor.eof else None
    return None


def render(content_type: bytes, coding: bytes, content: bytes) -> tuple[Form, bytes]:
    """How ``content`` stands in JSON, and what stands there: itself, byte for byte, if it is JSON; a JSON string for text. What
    becomes base64 is returned as it is: so does text "where its JSON string would be longer than 4/3 of its base64".

    ``content_type`` and ``coding`` are the values of ``Content-Type`` and ``Content-Encoding``, empty where absent.
    """
    if not content:
        return "json", b"{}"
    calls_itself_json, charset = _known_kind(content_type) if len(content_type) <= LONGEST_KNOWN else _kind(content_type)
    if not coding:
        if calls_itself_json and is_json(content):
            return "json", content
        if charset is not None:
            try:
                string = _string(content.decode(charset), 4 * (_base64_size(content) + 2) // 3)
            except (LookupError, ValueError):
                string = None
            if string is not None:
                return "string", string
    return "base64", content


def _string(text: str, most: int) -> bytes | None:
    """The JSON string of ``text``; None where it has more than ``most`` bytes, quotes included."""
    if len(text) > LONG_TEXT:
        content = text.encode()
        if len(content) + (MOST_ESCAPED - 1) * (len(content) - len(content.translate(None, ESCAPED_MOST))) > most:
            return None
    string = _encode(text)
    return string if len(string) <= most else None


def check_size(headers: Sequence[tuple[bytes, bytes]], content: bytes, limit: int) -> Form:
    """How the content of an answer with these header fields stands in JSON.

    Raises ResultTooLarge where it takes more than ``limit`` bytes there. The quotes around a string are not counted, so that text
    without any escape takes what it is.
    """
    form, body = render(_field(headers, b"content-type"), _field(headers, b"content-encoding"), content)
    size = _base64_size(content) if form == "base64" else len(body) - 2 if form == "string" else len(body)
    if size > limit:
        raise ResultTooLarge(limit, encoded=True)
    return form


def _field(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes:
    return b", ".join(value for each, value in headers if each == name)


def _base64_size(content: bytes) -> int:
    return (len(content) + 2) // 3 * 4


def _kind(content_type: bytes) -> tuple[bool, str | None]:
    """Whether the content calls itself JSON, and the charset to read it in as text, None where it is not text."""
    essence, parameters = media_type(content_type)
    charset = parameters.get("charset")
    calls_itself_json = is_json_type(essence)
    if charset is not None and not is_charset(charset):
        return calls_itself_json, None
    textual = calls_itself_json or charset or not essence or essence.startswith("text/") or essence.endswith("+xml")
    return calls_itself_json, (charset or "utf-8") if textual or essence in _TEXT_TYPES else None


_known_kind = lru_cache(maxsize=64)(_kind)
