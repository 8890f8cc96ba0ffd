"""The envelopes in which several streams share one WebSocket: read and built, decisions only, no I/O.

The protocol is docs/reference/multiplexing.md.
"""

import base64
import binascii
import json
import re
from typing import Any, Final, NamedTuple, NoReturn

from sealane.exceptions import InvalidEnvelope
from sealane.types import Message

__all__ = [
    "MAX_NAME",
    "Close",
    "Frame",
    "Open",
    "build_close",
    "build_error",
    "build_frame",
    "build_open",
    "parse",
    "quote",
    "refusal_code",
]

#: Characters of a stream's name.
MAX_NAME: Final = 100

#: The code of a close that names none: RFC 6455, section 7.1.5.
_NO_STATUS: Final = 1005

#: The forms of a frame, of which an envelope has exactly one.
_FORMS: Final = ("payload", "text", "bytes")

# What nearly every envelope looks like: then the payload is taken out as it was written, rather than read and written
# again. Everything else takes the other way.
_USUAL: Final = re.compile(rf'\{{"stream": ?"([^"\\\x00-\x1f]{{1,{MAX_NAME}}})", ?"payload": ?')
_DECODER: Final = json.JSONDecoder()
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


class Frame(NamedTuple):
    """A frame for the consumer of a stream, as a server would bring it."""

    stream: str
    event: Message


class Open(NamedTuple):
    """The client wants a stream."""

    stream: str
    subprotocols: tuple[str, ...] = ()


class Close(NamedTuple):
    """The client does not want a stream any more."""

    stream: str
    code: int = _NO_STATUS
    reason: str = ""


# From the client


def parse(text: str | None) -> Frame | Open | Close:
    """Return what a client's text frame says; None stands for a binary frame.

    Raises :exc:`~sealane.exceptions.InvalidEnvelope`, with the stream where there is a name of one.
    """
    if text is None:
        raise InvalidEnvelope("expected a text frame, not a binary one")
    usual = _USUAL.match(text)
    if usual is not None:
        start = usual.end()
        try:
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            pass  # said below
        else:
            if text[end:] == "}":
                return Frame(usual[1], {"type": "websocket.receive", "text": text[start:end]})
    return _read(_decode(text))


def _decode(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidEnvelope(f"it is not JSON: {error}") from None
    except (ValueError, RecursionError):  # an integer of too many digits, or too deep a nesting
        raise InvalidEnvelope("it is not JSON that can be read") from None


def _read(content: Any) -> Frame | Open | Close:
    if not isinstance(content, dict):
        raise InvalidEnvelope(f"expected a JSON object, not {_kind(content)}")
    stream = content.get("stream")
    if not isinstance(stream, str) or not 0 < len(stream) <= MAX_NAME:
        raise InvalidEnvelope(f"'stream' has to be a text of 1 to {MAX_NAME} characters")
    forms = [form for form in (*_FORMS, "event") if form in content]
    if len(forms) != 1:
        raise InvalidEnvelope("expected exactly one of 'payload', 'text', 'bytes' and 'event'", stream)
    value = content[forms[0]]
    match forms[0]:
        case "payload":
            # As ASCII: a text may have halves of a character in it, which cannot be sent anywhere.
            return Frame(stream, {"type": "websocket.receive", "text": json.dumps(value)})
        case "text":
            return Frame(stream, {"type": "websocket.receive", "text": _text(value, "text", stream)})
        case "bytes":
            return Frame(stream, {"type": "websocket.receive", "bytes": _bytes(value, stream)})
    if value == "open":
        return Open(stream, _subprotocols(content.get("subprotocols", ()), stream))
    if value == "close":
        reason = _text(content.get("reason", ""), "reason", stream)
        return Close(stream, _code(content.get("code", _NO_STATUS), stream), reason)
    raise InvalidEnvelope("'event' has to be 'open' or 'close'", stream)


def _text(value: Any, key: str, stream: str) -> str:
    if not isinstance(value, str):
        raise InvalidEnvelope(f"{key!r} has to be a text, not {_kind(value)}", stream)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidEnvelope(f"{key!r} has half of a character in it", stream) from None
    return value


def _bytes(value: Any, stream: str) -> bytes:
    try:
        return base64.b64decode(_text(value, "bytes", stream), validate=True)
    except (binascii.Error, ValueError) as error:
        if isinstance(error, InvalidEnvelope):
            raise
        raise InvalidEnvelope("'bytes' has to be base64", stream) from None


def _code(value: Any, stream: str) -> int:
    # What a browser lets a page close a WebSocket with, and 1005, which is what a page gives that names none.
    if type(value) is int and (value in (1000, _NO_STATUS) or 3000 <= value <= 4999):
        return value
    raise InvalidEnvelope("'code' has to be 1000, or a number from 3000 to 4999", stream)


def _subprotocols(value: Any, stream: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise InvalidEnvelope("'subprotocols' has to be a list of texts", stream)
    return tuple(value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


# To the client


def quote(stream: str) -> str:
    """Return a stream's name as it is written in its envelopes, for :func:`build_frame`."""
    return json.dumps(stream)


def build_frame(name: str, event: Message, *, as_json: bool) -> str:
    """Return the envelope of a frame that a stream's application sends: a ``websocket.send`` event.

    ``name`` is the quoted name of the stream: it is the same for every frame.
    A text frame is its ``payload`` where ``as_json`` says that the application speaks JSON, and it is JSON. Any other
    text is a ``text``, so that what the client reads does not depend on what the text happens to look like.

    Raises ValueError where the event has neither text nor bytes.
    """
    text = event.get("text")
    if text is not None:
        if as_json and _is_json(text):
            return f'{{"stream":{name},"payload":{text}}}'
        return f'{{"stream":{name},"text":{json.dumps(text)}}}'
    data = event.get("bytes")
    if data is None:
        raise ValueError(f"websocket.send of the stream {name} has neither text nor bytes")
    return f'{{"stream":{name},"bytes":"{base64.b64encode(data).decode()}"}}'


def build_open(stream: str, subprotocol: str | None) -> str:
    """Return the envelope that says that a stream is open."""
    chosen = {} if subprotocol is None else {"subprotocol": subprotocol}
    return _ENCODER.encode({"stream": stream, "event": "open", **chosen})


def build_close(stream: str, code: int, reason: str) -> str:
    """Return the envelope that says that a stream is closed, or was refused."""
    return _ENCODER.encode({"stream": stream, "event": "close", "code": code, "reason": reason})


def build_error(stream: str | None, code: int, reason: str) -> str:
    """Return the envelope that answers one of the client's which came to nothing."""
    return _ENCODER.encode({"stream": stream, "event": "error", "code": code, "reason": reason})


def refusal_code(code: int | None) -> int:
    """Return the code of a stream that was refused, from the code of the event that refused it.

    A server answers such a WebSocket with 403 whatever its code; here a code of the application's own is kept.
    """
    return 4403 if code is None or code == 1000 else code


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Python writes NaN and Infinity, which no browser reads: a frame with one is no payload.
_STRICT: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def _is_json(text: str) -> bool:
    try:
        # Without the white space around it, which decode() looks for; no encoder writes it.
        return _STRICT.raw_decode(text)[1] == len(text)
    except (ValueError, RecursionError):
        return False
