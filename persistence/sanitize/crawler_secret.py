"""
The secret of a crawler: a prefix by which scanners know it, 256 random bits, and a checksum.

The checksum tells a secret that was cut or mistyped from one that is not ours, before anything is looked up.
"""

import secrets
from base64 import b32encode
from hashlib import sha256
from zlib import crc32

PREFIX = "cyc_"

_RANDOM_BYTES = 32
_LETTERS = 52
_CHECKSUM_LETTERS = 7


def new_secret() -> str:
    """Make a secret: the prefix and 59 lower-case letters and digits."""
    letters = _base32(secrets.token_bytes(_RANDOM_BYTES))
    return PREFIX + letters + _checksum(letters)


def is_secret(text: str) -> bool:
    """True if a text has the form of a secret, and its checksum is right."""
    letters, checksum = text[len(PREFIX) : -_CHECKSUM_LETTERS], text[-_CHECKSUM_LETTERS:]
    return text.startswith(PREFIX) and len(letters) == _LETTERS and checksum == _checksum(letters)


def hash_of(secret: str) -> str:
    """The SHA-256 of a secret, in hex: all that is kept of it."""
    return sha256(secret.encode()).hexdigest()


def _checksum(letters: str) -> str:
    return _base32(crc32(letters.encode()).to_bytes(4))


def _base32(data: bytes) -> str:
    return b32encode(data).decode().rstrip("=").lower()
