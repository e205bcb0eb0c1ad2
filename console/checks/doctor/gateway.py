"""The doctor's examination of a gateway's settings on this machine; this needs no server."""

import os
import resource
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from console.checks.doctor.certificates import validity
from console.checks.doctor.finding import Finding, judged
from console.output.screen import duration
from gateway.listeners.addresses import ListenAddress, read_addresses
from gateway.listeners.bounds import SPARE_DESCRIPTORS, descriptors
from gateway.listeners.tls import CERTIFICATE, CLIENT_AUTHORITY, Tls
from persistence.exceptions import SettingsError
from persistence.settings import FILE_VARIABLES, settings

_RENEW_BEFORE: Final = timedelta(days=14)
_FEW_LINKS: Final = 1000

_MOUNTED: Final = (Path("/run/secrets"), Path("/var/run/secrets"))
"""Where containers find their secrets, which all of their few users may read."""


def examine_gateway() -> list[Finding]:
    """Examine what a gateway that is started in this environment would find."""
    try:
        addresses = read_addresses(settings().gateway_listen)
    except SettingsError as error:
        setting, _, detail = str(error).partition(" ")
        return [Finding("the gateway's addresses", "fault", detail, f"Correct {setting}.")]
    return [
        _listening(addresses),
        *(_unencrypted(address) for address in addresses if not (address.encrypted or address.is_local)),
        *(found for address in addresses if address.path for found in _replaceable(address)),
        *(_certificates() if any(address.encrypted for address in addresses) else []),
        *_readable_by_others(),
        _descriptors(),
    ]


def _listening(addresses: list[ListenAddress]) -> Finding:
    return Finding("the gateway's addresses", "ok", ", ".join(map(str, addresses)))


def _unencrypted(address: ListenAddress) -> Finding:
    encrypted = "tls://" if address.scheme == "tcp" else "wss://"
    return Finding(
        f"{address}",
        "warning",
        "is not encrypted: the secrets of crawlers and the tokens of accounts cross the network readable",
        f"Use {encrypted} there, unless the network itself is encrypted.",
    )


def _replaceable(address: ListenAddress) -> list[Finding]:
    """Find a folder in which anybody could put another socket in the place of ours."""
    folder = Path(address.path).parent
    try:
        mode = folder.stat().st_mode
    except OSError:
        return []
    if not mode & stat.S_IWOTH or mode & stat.S_ISVTX:
        return []
    detail = f"its folder {folder} is writable by others, who could put a socket of their own there"
    return [Finding(f"{address}", "fault", detail, f"Say chmod o-w {folder}.")]


def _certificates() -> list[Finding]:
    try:
        Tls.of(settings())
    except SettingsError as error:
        setting, _, detail = str(error).partition(" ")
        return [Finding("the gateway's certificate", "fault", detail, f"Correct {setting}.")]
    named = {
        CERTIFICATE: settings().gateway_certificate,
        CLIENT_AUTHORITY: settings().gateway_client_authority,
    }
    return [_validity(setting, path) for setting, path in named.items() if path is not None]


def _validity(setting: str, path: Path) -> Finding:
    about = "the gateway's certificate" if setting == CERTIFICATE else "the authority of crawlers"
    now = datetime.now(UTC)
    try:
        begin, end = validity(path)
    except (OSError, ValueError) as error:
        return Finding(
            about, "warning", f"{setting} cannot be examined: {error}", "Look at its end yourself."
        )
    if now < begin:
        return Finding(
            about, "fault", f"is not valid before {begin:%Y-%m-%d %H:%M} UTC", "Check this machine's clock."
        )
    if end <= now:
        return Finding(
            about, "fault", f"ended on {end:%Y-%m-%d %H:%M} UTC", f"Renew the file that {setting} names."
        )
    return judged(
        about,
        f"is valid until {end:%Y-%m-%d %H:%M} UTC, for {duration(end - now)}",
        good=end - now > _RENEW_BEFORE,
        remedy=f"Renew the file that {setting} names; a running gateway reads it by itself.",
        otherwise="warning",
    )


def _readable_by_others() -> list[Finding]:
    key = settings().gateway_key or settings().gateway_certificate
    files = {variable: os.environ.get(variable) for variable in (f"{name}_FILE" for name in FILE_VARIABLES)}
    paths = [Path(path) for path in (key, *files.values()) if path]
    return [found for path in dict.fromkeys(paths) if (found := _readable(path)) is not None]


def _readable(path: Path) -> Finding | None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if not mode & stat.S_IROTH or any(path.is_relative_to(mounted) for mounted in _MOUNTED):
        return None
    detail = (
        f"{path} holds a secret, and all users of this machine may read it (mode {stat.S_IMODE(mode):04o})"
    )
    return Finding("secrets", "warning", detail, f"Say chmod o-rwx {path}.")


def _descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(0, descriptors(hard) - SPARE_DESCRIPTORS)
    asked = settings().gateway_max_links
    links = min(possible, asked or possible)
    return judged(
        "the gateway's links",
        f"at most {links:,}: the limit of descriptors is {hard if hard >= 0 else 'none'}"
        + (f", and CRAWLYARD_GATEWAY_MAX_LINKS is {asked:,}" if asked else ""),
        good=links >= (asked or _FEW_LINKS),
        remedy="Raise the hard limit of descriptors (ulimit -Hn, LimitNOFILE of systemd, ulimits of Docker).",
        otherwise="warning" if links else "fault",
    )
