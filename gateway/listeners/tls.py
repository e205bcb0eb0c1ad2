"""The certificate that encrypted listeners show, read again when its files change."""

import ssl
from asyncio.sslproto import SSLProtocol
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from persistence.exceptions import SettingsError
from persistence.settings import PREFIX, Settings

CERTIFICATE: Final = f"{PREFIX}GATEWAY_CERTIFICATE"
KEY: Final = f"{PREFIX}GATEWAY_KEY"
CLIENT_AUTHORITY: Final = f"{PREFIX}GATEWAY_CLIENT_AUTHORITY"

_BUFFER_BYTES: Final = 4 * 1024

_Stamp = tuple[int, int, int] | None


def shrink_buffers() -> None:
    """
    Let asyncio read TLS in pieces of 4 KiB instead of 256 KiB.

    It allocates a buffer of that size for each link: idle links took 280 KiB each with its own size, 39.8 KiB with
    16 KiB, and 27.6 KiB with this one, which costs large frames 2 ms more CPU a megabyte. uvloop has buffers of its
    own (26.8 KiB a link), and does not look at this.
    """
    SSLProtocol.max_size = _BUFFER_BYTES


@dataclass
class Tls:
    """The files, and the context that was last made of them."""

    certificate: Path
    key: Path | None
    client_authority: Path | None
    context: ssl.SSLContext = field(init=False)
    _stamps: list[_Stamp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.load()

    @classmethod
    def of(cls, settings: Settings) -> "Tls":
        """Load what the settings name. Raises SettingsError, which names the setting and the remedy."""
        if settings.gateway_certificate is None:
            raise SettingsError(
                f"{CERTIFICATE} must be set, since CRAWLYARD_GATEWAY_LISTEN names a tls:// or wss:// address"
            )
        return cls(settings.gateway_certificate, settings.gateway_key, settings.gateway_client_authority)

    def changed(self) -> bool:
        """Whether one of the files is another one than when it was last read, or its content is."""
        return self._stamps != [_stamp(path) for path in self._files()]

    def load(self) -> None:
        """Read the files; the context before stays if they do not fit. Raises SettingsError."""
        stamps = [_stamp(path) for path in self._files()]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key, password=_refuse_password)
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(self._why(error)) from None
        if self.client_authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(self.client_authority)
            except OSError as error:
                raise SettingsError(
                    f"{CLIENT_AUTHORITY} names a file that cannot be used, {_reason(error)}; it must hold certificates "
                    "in PEM"
                ) from None
        self.context, self._stamps = context, stamps

    def _files(self) -> list[Path]:
        return [path for path in (self.certificate, self.key, self.client_authority) if path is not None]

    def _why(self, error: OSError) -> str:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            return f"{KEY} is not the key of {CERTIFICATE}; renew both together"
        return (
            f"{CERTIFICATE} or {KEY} names a file that cannot be used, {_reason(error)}; both must be in PEM, readable "
            "by the gateway, and the key without a password"
        )


def _refuse_password() -> str:
    """Refuse: without this, OpenSSL asks the terminal for the password of an encrypted key, and waits."""
    raise PermissionError(0, "the key has a password")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "it holds none"
    return error.strerror or "it cannot be read"


def _stamp(path: Path) -> _Stamp:
    """Tell whether a file is still the same; a secret that is mounted is replaced by another one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
