"""When certificates are valid, read from their files: Python's ssl tells that of a peer's certificate only."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"

_VERSION: Final = 0xA0
"""The tag of a certificate's version, which old ones lack."""

_UTC_TIME: Final = 0x17
"""A time with two digits for the year, from 1950 to 2049."""


def validity(path: Path) -> tuple[datetime, datetime]:
    """
    Return from when until when all certificates of a PEM file are valid: a chain ends with its first link.

    Raises OSError if it cannot be read, and ValueError if it holds none.
    """
    blocks = path.read_text(encoding="ascii", errors="replace").split(_BEGIN)[1:]
    if not blocks:
        raise ValueError("it holds no certificate")
    times = [_validity_of(_BEGIN + block.partition(_END)[0] + _END) for block in blocks]
    return max(begin for begin, _ in times), min(end for _, end in times)


def _validity_of(pem: str) -> tuple[datetime, datetime]:
    """
    Read the validity of one certificate.

    It is the fourth or fifth part of its first part, depending on whether a version stands before the serial number,
    the algorithm and the issuer. Source: RFC 5280, section 4.1.
    """
    try:
        [(_, certificate), *_] = _parts(ssl.PEM_cert_to_DER_cert(pem))
        [(_, signed), *_] = _parts(certificate)
        parts = _parts(signed)
        _, times = parts[4 if parts[0][0] == _VERSION else 3]
        begin, end = [_time(tag, text) for tag, text in _parts(times)]
    except (IndexError, ValueError):
        raise ValueError("it holds what is no certificate") from None
    return begin, end


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """Split what a value of ASN.1 holds into its parts, each with its tag."""
    parts, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            digits = length & 0x7F
            length, at = int.from_bytes(der[at : at + digits]), at + digits
        parts.append((tag, der[at : at + length]))
        at += length
    return parts


def _time(tag: int, text: bytes) -> datetime:
    """Read a time, of which the last letter is Z."""
    digits = text.decode("ascii")
    if tag == _UTC_TIME:
        digits = ("20" if digits < "5" else "19") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
