"""Encryption, rotation of keys, and the report of what cannot be decrypted."""

import logging
import sys
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealane.exceptions import InvalidChannelLayerError, UndecryptableMessage
from sealane.layers.redis.keyring import Keyring, Undecryptable, parse_keys
from tests.layers.clock import Clock


@given(data=st.binary(max_size=300), key=st.one_of(st.text(min_size=1), st.binary(min_size=1)))
def test_what_is_encrypted_can_be_decrypted(data: bytes, key: str | bytes) -> None:
    encrypted = Keyring([key]).encrypt(data)
    assert Keyring([key]).decrypt(encrypted) == data
    assert data not in encrypted or len(data) < 3


def test_the_same_message_is_never_encrypted_to_the_same_bytes() -> None:
    keyring = Keyring(["key"])
    assert keyring.encrypt(b"message") != keyring.encrypt(b"message")


def test_a_str_and_its_bytes_are_one_key() -> None:
    assert Keyring([b"s\xc3\xbc"]).decrypt(Keyring(["sü"]).encrypt(b"data")) == b"data"


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, new, rotating = Keyring(["old"]), Keyring(["new"]), Keyring(["new", "old"])
    assert rotating.decrypt(old.encrypt(b"data")) == b"data"
    assert rotating.decrypt(new.encrypt(b"data")) == b"data"
    assert new.decrypt(rotating.encrypt(b"data")) == b"data"
    with pytest.raises(UndecryptableMessage):
        old.decrypt(rotating.encrypt(b"data"))


@given(junk=st.binary(max_size=200))
def test_what_is_not_ours_is_refused(junk: bytes) -> None:
    with pytest.raises(UndecryptableMessage, match="cannot be decrypted with any key of symmetric_encryption_keys"):
        Keyring(["key"]).decrypt(junk)


@given(position=st.integers(0, 10_000), change=st.integers(1, 255))
def test_a_changed_byte_is_noticed(position: int, change: int) -> None:
    keyring = Keyring(["key"])
    encrypted = bytearray(keyring.encrypt(b"attack at dawn"))
    encrypted[position % len(encrypted)] ^= change
    with pytest.raises(UndecryptableMessage):
        keyring.decrypt(bytes(encrypted))


def test_the_error_has_neither_cause_nor_context() -> None:
    with pytest.raises(UndecryptableMessage) as caught:
        Keyring(["key"]).decrypt(b"")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("keys", [None, [], ()])
def test_no_keys_mean_no_encryption(keys: object) -> None:
    assert parse_keys(keys) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("s3cret", "symmetric_encryption_keys is a single key; expected a list of keys, each a str or bytes"),
        (b"s3cret", "symmetric_encryption_keys is a single key; expected a list"),
        (42, "symmetric_encryption_keys is of type int; expected a list"),
        ({"s3cret", "old"}, "symmetric_encryption_keys is of type set; expected a list"),
        ({"s3cret": "old"}, "symmetric_encryption_keys is of type dict; expected a list"),
        (["s3cret", 42], r"symmetric_encryption_keys\[1\] is of type int; expected a list"),
        (["s3cret", ""], r"symmetric_encryption_keys\[1\] is empty; expected a list"),
    ],
)
def test_keys_of_other_kinds_are_refused_without_being_shown(keys: object, message: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=message) as caught:
        parse_keys(keys)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_cryptography_is_asked_for_only_with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is how Python itself says that a module cannot be imported.
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    assert parse_keys([]) is None
    with pytest.raises(InvalidChannelLayerError, match=r'pip install "sealane\[crypto\]"'):
        parse_keys(["key"])


def test_repr_shows_no_key() -> None:
    assert repr(parse_keys(["s3cret", "old"])) == "<Keyring of 2 keys>"
    assert repr(Keyring(["s3cret"])) == "<Keyring of 1 key>"


def test_failures_are_logged_once_a_minute_and_all_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    failures = Undecryptable("layer 'default'", clock=clock)
    with caplog.at_level(logging.WARNING, logger="sealane.layers"):
        for _ in range(5):
            failures.note("group 'news'")
        assert [record.getMessage() for record in caplog.records] == [
            "layer 'default' dropped 1 message that no key of symmetric_encryption_keys decrypts, the last for group "
            "'news'. Do all processes have the same keys?"
        ]
        clock.advance(59.9)
        failures.note("group 'news'")
        assert len(caplog.records) == 1
        clock.advance(0.1)
        failures.note("channel 'mail'")
    assert len(caplog.records) == 2
    assert "dropped 6 messages that no key" in caplog.records[1].getMessage()
    assert "the last for channel 'mail'" in caplog.records[1].getMessage()
    assert failures.count == 7
