"""The envelopes of a demultiplexer: what is read from a client, what is refused, and what is built."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealane.consumers.envelope import (
    Close,
    Frame,
    Open,
    build_close,
    build_error,
    build_frame,
    build_open,
    parse,
    quote,
    refusal_code,
)
from sealane.exceptions import InvalidEnvelope


def received(**event: Any) -> dict[str, Any]:
    return {"type": "websocket.receive", **event}


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ('{"stream":"chat","payload":{"a": 1.10}}', received(text='{"a": 1.10}')),
        ('{"stream": "chat", "payload": [1,  2]}', received(text="[1,  2]")),
        ('{"stream": "chat", "payload": [1,  2]} ', received(text="[1, 2]")),
        ('{"stream":"chat","payload":null}', received(text="null")),
        ('{"payload":{"a":1},"stream":"chat"}', received(text='{"a": 1}')),
        (' {"stream":"ch\\u0061t","payload":"ü"}', received(text='"\\u00fc"')),
        ('{"stream":"chat","payload":1,"extra":2}', received(text="1")),
        ('{"stream":"other","payload":1,"stream":"chat"}', received(text="1")),
        ('{"stream":"chat","text":"not JSON: {"}', received(text="not JSON: {")),
        ('{"stream":"chat","text":""}', received(text="")),
        ('{"stream":"chat","bytes":"AP8="}', received(bytes=b"\x00\xff")),
    ],
)
def test_a_frame_is_what_a_server_would_bring(text: str, frame: dict[str, Any]) -> None:
    assert parse(text) == Frame("chat", frame)


@pytest.mark.parametrize(
    ("content", "envelope"),
    [
        ({"event": "open"}, Open("chat")),
        ({"event": "open", "subprotocols": ["a", "b"]}, Open("chat", ("a", "b"))),
        ({"event": "close"}, Close("chat", 1005, "")),
        ({"event": "close", "code": 4000, "reason": "enough"}, Close("chat", 4000, "enough")),
    ],
)
def test_an_event_is_about_the_stream(content: dict[str, Any], envelope: Open | Close) -> None:
    assert parse(json.dumps({"stream": "chat", **content})) == envelope


BAD: list[tuple[str | None, str | None, str]] = [
    (None, None, "expected a text frame, not a binary one"),
    ("{", None, "it is not JSON: "),
    ('{"stream":"chat","payload":{}', None, "it is not JSON: "),
    ('{"stream":"chat","payload":}', None, "it is not JSON: "),
    ("[" * 100_000, None, "it is not JSON that can be read"),
    ('{"stream":"chat","payload":' + "[" * 100_000, None, "it is not JSON that can be read"),
    ('{"stream":"chat","payload":' + "1" * 5_000 + "}", None, "it is not JSON that can be read"),
    ("[]", None, "expected a JSON object, not a list"),
    ('"chat"', None, "expected a JSON object, not a text"),
    ("1", None, "expected a JSON object, not a number"),
    ("null", None, "expected a JSON object, not null"),
    ('{"payload":1}', None, "'stream' has to be a text of 1 to 100 characters"),
    ('{"stream":1,"payload":1}', None, "'stream' has to be a text of 1 to 100 characters"),
    ('{"stream":"","payload":1}', None, "'stream' has to be a text of 1 to 100 characters"),
    ('{"stream":"%s","payload":1}' % ("x" * 101), None, "'stream' has to be a text of 1 to 100 characters"),
    ('{"stream":"chat"}', "chat", "expected exactly one of 'payload', 'text', 'bytes' and 'event'"),
    ('{"stream":"chat","payload":1,"text":""}', "chat", "expected exactly one of"),
    ('{"stream":"chat","text":{}}', "chat", "'text' has to be a text, not an object"),
    ('{"stream":"chat","text":"\\ud800"}', "chat", "'text' has half of a character in it"),
    ('{"stream":"chat","bytes":"?"}', "chat", "'bytes' has to be base64"),
    ('{"stream":"chat","bytes":"ü"}', "chat", "'bytes' has to be base64"),
    ('{"stream":"chat","bytes":true}', "chat", "'bytes' has to be a text, not true or false"),
    ('{"stream":"chat","event":"accept"}', "chat", "'event' has to be 'open' or 'close'"),
    ('{"stream":"chat","event":"open","subprotocols":"a"}', "chat", "'subprotocols' has to be a list of texts"),
    ('{"stream":"chat","event":"open","subprotocols":[1]}', "chat", "'subprotocols' has to be a list of texts"),
    ('{"stream":"chat","event":"close","code":1006}', "chat", "'code' has to be 1000, or a number from 3000 to 4999"),
    ('{"stream":"chat","event":"close","code":true}', "chat", "'code' has to be 1000, or a number from 3000 to 4999"),
    ('{"stream":"chat","event":"close","reason":1}', "chat", "'reason' has to be a text, not a number"),
]


@pytest.mark.parametrize(("text", "stream", "problem"), BAD)
def test_what_is_no_envelope_is_refused(text: str | None, stream: str | None, problem: str) -> None:
    with pytest.raises(InvalidEnvelope) as refused:
        parse(text)
    assert refused.value.stream == stream
    assert refused.value.code == 4400
    of = "" if stream is None else f" of the stream {stream!r}"
    assert str(refused.value).startswith(f"An envelope{of} cannot be read: {problem}")


@given(st.text(max_size=200))
def test_no_text_of_a_client_raises_anything_else(text: str) -> None:
    for candidate in (text, f'{{"stream":"chat","payload":{text}}}', f'{{"stream":"chat","{text}":1}}'):
        try:
            parse(candidate)
        except InvalidEnvelope:
            pass


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(min_size=1, max_size=100), VALUES, st.sampled_from([(",", ":"), (", ", ": ")]), st.booleans())
def test_a_payload_arrives_as_it_was(name: str, value: Any, separators: tuple[str, str], is_first: bool) -> None:
    content = {"stream": name, "payload": value} if is_first else {"payload": value, "stream": name}
    frame = parse(json.dumps(content, separators=separators))
    assert isinstance(frame, Frame)
    assert frame.stream == name
    assert json.loads(frame.event["text"]) == value


@given(st.text(min_size=1, max_size=100), VALUES)
def test_a_payload_leaves_as_it_was(name: str, value: Any) -> None:
    sent = build_frame(quote(name), {"type": "websocket.send", "text": json.dumps(value)}, as_json=True)
    assert json.loads(sent) == {"stream": name, "payload": value}


@pytest.mark.parametrize("text", ["", "hello", "{", '{"a":1}}', "NaN", "[Infinity]", '{"a":1},"b":2', "[" * 100_000])
def test_a_text_that_is_not_json_leaves_as_text(text: str) -> None:
    sent = build_frame('"chat"', {"type": "websocket.send", "text": text}, as_json=True)
    assert json.loads(sent) == {"stream": "chat", "text": text}


def test_a_text_of_a_consumer_of_texts_is_text_whatever_it_looks_like() -> None:
    sent = build_frame('"chat"', {"type": "websocket.send", "text": "1"}, as_json=False)
    assert json.loads(sent) == {"stream": "chat", "text": "1"}


def test_a_binary_frame_is_base64() -> None:
    sent = build_frame('"chat"', {"type": "websocket.send", "bytes": b"\x00\xff", "text": None}, as_json=True)
    assert json.loads(sent) == {"stream": "chat", "bytes": "AP8="}
    with pytest.raises(ValueError, match='of the stream "chat" has neither text nor bytes'):
        build_frame('"chat"', {"type": "websocket.send"}, as_json=True)


def test_what_a_client_is_told() -> None:
    assert build_open("chat", None) == '{"stream":"chat","event":"open"}'
    assert build_open("chat", "v2") == '{"stream":"chat","event":"open","subprotocol":"v2"}'
    assert build_close("chat", 4403, "no") == '{"stream":"chat","event":"close","code":4403,"reason":"no"}'
    assert build_error(None, 4400, "?") == '{"stream":null,"event":"error","code":4400,"reason":"?"}'


@pytest.mark.parametrize(("code", "told"), [(None, 4403), (1000, 4403), (4001, 4001), (1011, 1011)])
def test_the_code_of_a_refusal(code: int | None, told: int) -> None:
    assert refusal_code(code) == told
