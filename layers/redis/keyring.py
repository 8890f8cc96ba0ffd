"""Encryption of what a layer sends: authenticated, with keys that can be rotated."""

import base64
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set

from sealane.exceptions import InvalidChannelLayerError, UndecryptableMessage

__all__ = ["Keyring", "Undecryptable", "parse_keys"]

logger = logging.getLogger("sealane.layers")

#: At most one warning about undecryptable messages in so many seconds.
_QUIET = 60.0

_EXPECTED = "expected a list of keys, each a str or bytes: the first encrypts, all of them decrypt"


def parse_keys(keys: object) -> "Keyring | None":
    """Return the keyring that the option ``symmetric_encryption_keys`` describes, or None where it has no key.

    Raises InvalidChannelLayerError, which never holds a key, for anything but a list of str and bytes, and where the
    package cryptography is missing.
    """
    if keys is None:
        return None
    # Of a set, which key is the first differs from process to process.
    if isinstance(keys, (str, bytes, Set, Mapping)) or not isinstance(keys, Iterable):
        got = "a single key" if isinstance(keys, (str, bytes)) else f"of type {type(keys).__name__}"
        raise InvalidChannelLayerError(f"symmetric_encryption_keys is {got}; {_EXPECTED}")
    several = list(keys)
    return Keyring(several) if several else None


class Keyring:
    """Encrypts with its first key, and decrypts with any: Fernet, which is AES-CBC and HMAC-SHA256.

    To rotate, put the new key second and deploy everywhere, then move it to the front and deploy, then drop the old
    one. Any str or bytes is a key; its SHA-256 is what Fernet gets. The calls may be made in any thread.
    """

    __slots__ = ("_decode", "_failure", "_fernet", "_size")

    def __init__(self, keys: Iterable[str | bytes]) -> None:
        """Take the keys. Raises as ``parse_keys()`` does."""
        try:
            from cryptography.fernet import Fernet, InvalidToken, MultiFernet
        except ImportError as exc:
            raise InvalidChannelLayerError(
                'symmetric_encryption_keys needs the package cryptography: pip install "sealane[crypto]"'
            ) from exc
        fernets = []
        for index, key in enumerate(keys):
            if not isinstance(key, (str, bytes)) or not key:
                got = "empty" if isinstance(key, (str, bytes)) else f"of type {type(key).__name__}"
                raise InvalidChannelLayerError(f"symmetric_encryption_keys[{index}] is {got}; {_EXPECTED}")
            digest = hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()
            fernets.append(Fernet(base64.urlsafe_b64encode(digest)))
        if not fernets:
            raise InvalidChannelLayerError(f"symmetric_encryption_keys is empty; {_EXPECTED}")
        self._size = len(fernets)
        self._fernet = MultiFernet(fernets)
        self._failure = InvalidToken

    def encrypt(self, data: bytes) -> bytes:
        """Return data encrypted and authenticated with the first key.

        The result is a third shorter than Fernet's own, which is the same in base64.
        """
        return base64.urlsafe_b64decode(self._fernet.encrypt(data))

    def decrypt(self, data: bytes) -> bytes:
        """Return what ``encrypt()`` was given, with any of the keys.

        Raises UndecryptableMessage for whatever else: another key, something changed or cut, not ours at all.
        """
        try:
            return self._fernet.decrypt(base64.urlsafe_b64encode(data))
        except self._failure:
            pass
        raise UndecryptableMessage

    def __repr__(self) -> str:
        return f"<Keyring of {self._size} key{'s' if self._size > 1 else ''}>"


class Undecryptable:
    """Counts the messages that could not be decrypted, and warns of them in the log at most once a minute.

    ``count`` is how many there were. The calls may be made in any thread.
    """

    __slots__ = ("_clock", "_layer", "_lock", "_unsaid", "_warned", "count")

    def __init__(self, layer: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the layer's name for the log, and a clock in seconds."""
        self._layer = layer
        self._clock = clock
        self._lock = threading.Lock()
        self._warned: float | None = None
        self._unsaid = 0
        self.count = 0

    def note(self, where: str) -> None:
        """Count a message that was dropped. ``where`` is what it was sent to, such as "group 'news'"."""
        with self._lock:
            self.count += 1
            self._unsaid += 1
            now = self._clock()
            if self._warned is not None and now - self._warned < _QUIET:
                return
            self._warned = now
            unsaid, self._unsaid = self._unsaid, 0
        logger.warning(
            "%s dropped %d message%s that no key of symmetric_encryption_keys decrypts, the last for %s. "
            "Do all processes have the same keys?",
            self._layer,
            unsaid,
            "" if unsaid == 1 else "s",
            where,
        )
