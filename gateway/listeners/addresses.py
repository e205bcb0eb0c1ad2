"""
The addresses on which a gateway listens, as CRAWLYARD_GATEWAY_LISTEN names them.

A list, separated by commas or blanks, of `unix:/path`, `tcp://host:port`, `tls://`, `ws://` and `wss://`, each with
options as a query: `mode` and `group` (Unix), `trust=peer` with `uids` (Unix), `insecure=yes` (tcp and ws elsewhere
than on loopback), `dialect=original` and `crawler=NAME`.
"""

import grp
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Final, Literal, get_args
from urllib.parse import SplitResult, parse_qsl, urlsplit

from persistence.exceptions import SettingsError

SETTING: Final = "CRAWLYARD_GATEWAY_LISTEN"

Scheme = Literal["unix", "tcp", "tls", "ws", "wss"]
Dialect = Literal["original"]

_BETWEEN = re.compile(r"[,\s]+(?=[A-Za-z][A-Za-z0-9+.-]*:)")
"""Separates addresses, but not the values of a list such as `uids=1000,1001`."""

_MAX_PATH_BYTES = 107
"""What `sockaddr_un` holds; our temporary name beside the socket is no longer than its own."""

_CRAWLER = re.compile(r"[A-Za-z0-9_.:@-]{1,128}")

_OPTIONS: Final[dict[str, frozenset[Scheme]]] = {
    "mode": frozenset({"unix"}),
    "group": frozenset({"unix"}),
    "trust": frozenset({"unix"}),
    "uids": frozenset({"unix"}),
    "insecure": frozenset({"tcp", "ws"}),
    "dialect": frozenset({"unix", "tcp"}),
    "crawler": frozenset(get_args(Scheme)),
}


@dataclass(frozen=True)
class ListenAddress:
    """One address with its options. *path* is that of a Unix socket, *host* and *port* are those of all others."""

    scheme: Scheme
    path: str = ""
    host: str = ""
    port: int = 0
    """0: the system chooses one."""

    mode: int = 0o660
    group: int | None = None
    trusts_peer: bool = False
    """Whoever runs under one of *uids* needs no secret."""

    uids: frozenset[int] | None = None
    """None: the gateway's own uid."""

    dialect: Dialect | None = None
    """None: protocol 1."""

    crawler: str | None = None
    """The one crawler that comes by this address."""

    @property
    def encrypted(self) -> bool:
        """Whether what it carries is encrypted."""
        return self.scheme in ("tls", "wss")

    @property
    def web_socket(self) -> bool:
        """Whether it speaks WebSocket."""
        return self.scheme in ("ws", "wss")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.scheme == "unix" or _is_loopback(self.host)

    def __str__(self) -> str:
        """Write it without its options, as logs and metrics name it."""
        if self.scheme == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def read_addresses(text: str) -> list[ListenAddress]:
    """Read the setting. Raises SettingsError, which names the setting, the address and the remedy."""
    addresses = [_read(one) for one in _BETWEEN.split(text.strip(" \t\r\n,")) if one]
    if not addresses:
        raise _wrong("names no address; set it, for example, to tcp://127.0.0.1:7433")
    _refuse_twice(addresses)
    return addresses


def _wrong(text: str) -> SettingsError:
    return SettingsError(f"{SETTING} {text}")


def _refuse_twice(addresses: Sequence[ListenAddress]) -> None:
    places = [one.path or (one.host, one.port) for one in addresses if one.path or one.port]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        place = twice if isinstance(twice, str) else f"{twice[0]}:{twice[1]}"
        raise _wrong(f"names {place} twice; keep one of them")


def _read(text: str) -> ListenAddress:
    if "@" in text.partition("?")[0] and not text.startswith("unix:"):
        raise _wrong(
            "holds an address with a user or password; remove them, crawlers have secrets of their own"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _wrong(
            f"holds {text!r}, which is no address; its port must be a number up to 65535, and an IPv6 address stands "
            "in brackets"
        ) from None
    scheme = next((one for one in get_args(Scheme) if one == parts.scheme), None)
    if scheme is None:
        raise _wrong(f"holds {text!r}; an address begins with unix:, tcp://, tls://, ws:// or wss://")
    options = _options(text, scheme, parts)
    address = (
        _unix(text, parts, options)
        if scheme == "unix"
        else _internet(text, scheme, parts, port=port, options=options)
    )
    _check_dialect(text, address)
    return address


def _options(text: str, scheme: Scheme, parts: SplitResult) -> dict[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    for name, value in pairs:
        if name not in _OPTIONS:
            close = get_close_matches(name, _OPTIONS, 1)
            remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(_OPTIONS)}"
            raise _wrong(f"gives {text!r} the option {name}, which there is not; {remedy}")
        if scheme not in _OPTIONS[name]:
            for_these = ", ".join(sorted(_OPTIONS[name]))
            raise _wrong(f"gives {text!r} the option {name}, which is for {for_these} only; remove it")
        if not value:
            raise _wrong(f"gives {text!r} the option {name} without a value; write {name}=…, or remove it")
    options = dict(pairs)
    if len(options) < len(pairs):
        raise _wrong(f"gives {text!r} an option twice; keep one of them")
    return options


def _unix(text: str, parts: SplitResult, options: dict[str, str]) -> ListenAddress:
    if parts.netloc or not parts.path.startswith("/") or parts.path.endswith("/"):
        raise _wrong(
            f"holds {text!r}; write the whole path of the socket, such as unix:/run/crawlyard/gateway.sock"
        )
    if len(parts.path.encode()) > _MAX_PATH_BYTES:
        raise _wrong(
            f"holds a path of more than {_MAX_PATH_BYTES} bytes, {parts.path!r}; choose a shorter one"
        )
    trust = options.get("trust")
    if trust not in (None, "peer"):
        raise _wrong(f"gives {text!r} trust={trust}; it may only be trust=peer")
    if "uids" in options and not trust:
        raise _wrong(f"gives {text!r} uids without trust=peer; write both, or neither")
    return ListenAddress(
        "unix",
        path=parts.path,
        mode=_mode(text, options.get("mode", "0660")),
        group=_group(text, options.get("group")),
        trusts_peer=trust == "peer",
        uids=_uids(text, options.get("uids")),
        dialect=_dialect(text, options),
        crawler=_crawler(text, options),
    )


def _internet(
    text: str, scheme: Scheme, parts: SplitResult, *, port: int | None, options: dict[str, str]
) -> ListenAddress:
    if not parts.hostname or port is None or parts.path not in ("", "/"):
        raise _wrong(f"holds {text!r}; write host and port alone, such as {scheme}://127.0.0.1:7433")
    address = ListenAddress(
        scheme,
        host=parts.hostname,
        port=port,
        dialect=_dialect(text, options),
        crawler=_crawler(text, options),
    )
    insecure = options.get("insecure")
    if insecure not in (None, "yes"):
        raise _wrong(f"gives {text!r} insecure={insecure}; write insecure=yes, or remove it")
    if not (address.encrypted or address.is_local or insecure):
        encrypted = "tls" if scheme == "tcp" else "wss"
        raise _wrong(
            f"holds {text!r}, by which secrets and tokens would cross the network unencrypted; use {encrypted}://, "
            "or add insecure=yes if the network itself is encrypted"
        )
    return address


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _mode(text: str, mode: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", mode):
        raise _wrong(f"gives {text!r} mode={mode}; write it in octal, such as mode=0660")
    return int(mode, 8)


def _group(text: str, group: str | None) -> int | None:
    if group is None or group.isdecimal():
        return None if group is None else int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise _wrong(
            f"gives {text!r} group={group}, which this machine does not know; create the group first"
        ) from None


def _uids(text: str, uids: str | None) -> frozenset[int] | None:
    if uids is None:
        return None
    numbers = [uid for uid in re.split(r"[,\s]+", uids) if uid]
    if not numbers or not all(re.fullmatch(r"[0-9]{1,10}", uid) for uid in numbers):
        raise _wrong(
            f"gives {text!r} uids={uids}; write user ids separated by commas, such as uids=1000,1001"
        )
    return frozenset(map(int, numbers))


def _dialect(text: str, options: dict[str, str]) -> Dialect | None:
    match options.get("dialect"):
        case None:
            return None
        case "original":
            return "original"
        case other:
            raise _wrong(f"gives {text!r} dialect={other}; it may be original, or left out")


def _crawler(text: str, options: dict[str, str]) -> str | None:
    crawler = options.get("crawler")
    if crawler is not None and not _CRAWLER.fullmatch(crawler):
        raise _wrong(f"gives {text!r} a crawler whose name is not 1 to 128 letters, digits and _ . : @ -")
    return crawler


def _check_dialect(text: str, address: ListenAddress) -> None:
    """Check that a crawler without a secret can be known otherwise: by its uid, or since it alone comes here."""
    if address.dialect is None or address.trusts_peer:
        return
    if address.scheme == "unix" or not (address.is_local and address.crawler):
        raise _wrong(
            f"gives {text!r} dialect=original, whose crawlers have no secret; add trust=peer to a unix: address, "
            "or crawler=NAME to a tcp:// address on loopback"
        )
