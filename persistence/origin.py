"""
The origin of a GitLab, to which tokens go: scheme, host, port and path prefix, in one spelling.

There is one parser of it: what it returns is compared, stored with the attempt, and handed to the crawler.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

import idna

GITLAB_COM = "https://gitlab.com"
"""The origin of all accounts of the provider gitlab-cloud."""

_GRAPHQL = "/api/graphql"

_LONGEST_URL = 2000
_DEFAULT_PORTS = {"http": 80, "https": 443}

_BLANKS = " \t\r\n"
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
"""Characters that parsers of URLs drop, or read in different ways."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]+")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_PORT = re.compile(r"[0-9]{1,5}")

_NAT64 = int(IPv6Address("64:ff9b::")) >> 32


def graphql_url(origin: str) -> str:
    """Return the URL of a new job, from the origin of its GitLab."""
    return f"{origin}{_GRAPHQL}"


@lru_cache(maxsize=4096)
def origin_of(url: str) -> str | None:
    """
    Return the origin of a GitLab's URL, with or without the path of its GraphQL; None if it has none.

    In lower case and IDNA, without the default port or a final dot; addresses in their shortest form. Credentials,
    queries, other schemes, and addresses that are link-local, multicast or unspecified have no origin. Blanks around
    the URL do not count.
    """
    url = url.strip(_BLANKS)
    if len(url) > _LONGEST_URL or _FORBIDDEN.search(url):
        return None
    try:
        parts = urlsplit(url)
        host, port = _host(parts.hostname or ""), _port(parts)
    except (ValueError, UnicodeError):  # what the parsers of URLs, addresses and IDNA raise
        return None
    prefix = _prefix(parts.path)
    is_plain = "@" not in parts.netloc and "?" not in url and "#" not in url
    if parts.scheme not in _DEFAULT_PORTS or not host or prefix is None or not is_plain:
        return None
    return f"{parts.scheme}://{host}{port}{prefix}"


def is_confidential(origin: str) -> bool:
    """Return True if nobody on the way to this origin reads along: it is https, or on this machine."""
    parts = urlsplit(origin)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host(name: str) -> str:
    """Return the host in its one spelling; '' if tokens must not go there. Raises ValueError if it is none."""
    if ":" in name:
        return _address(IPv6Address(name)) if "%" not in name else ""
    # A name in ASCII as it is: hosts of on-premise GitLabs may have underscores, which IDNA forbids.
    plain = name if name.isascii() else idna.encode(name, uts46=True, transitional=False).decode()
    labels = plain.lower().removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _address(_ipv4(labels))
    is_name = all(_LABEL.fullmatch(label) for label in labels) and len(plain) <= 254  # noqa: PLR2004 - with a dot
    return ".".join(labels) if is_name else ""


def _ipv4(labels: list[str]) -> IPv4Address:
    """Read an address as browsers and curl do: one to four numbers, decimal, octal or hexadecimal."""
    if len(labels) > 4 or not all(map(_NUMBER.fullmatch, labels)):  # noqa: PLR2004 - bytes
        raise ValueError("not an address")
    *firsts, last = map(_number, labels)
    if any(first > 255 for first in firsts) or last >= 256 ** (4 - len(firsts)):  # noqa: PLR2004 - bytes
        raise ValueError("not an address")
    return IPv4Address(sum(first << 8 * (3 - place) for place, first in enumerate(firsts)) + last)


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)


def _address(address: IPv4Address | IPv6Address) -> str:
    """Return an address as it stands in a URL, IPv4 within IPv6 as IPv4; '' if tokens must not go there."""
    if isinstance(address, IPv6Address):
        address = _within(address) or address
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return ""
    return f"[{address}]" if isinstance(address, IPv6Address) else str(address)


def _within(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that this one stands for: mapped, or by NAT64 or 6to4."""
    if int(address) >> 32 == _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _port(parts: SplitResult) -> str:
    """Return the port with its colon; '' for the default one. Raises ValueError if it is none."""
    _, colon, text = parts.netloc.rpartition("]")[2].partition(":")
    if not colon or not text:
        return ""
    if not _PORT.fullmatch(text) or not parts.port:
        raise ValueError("not a port")
    return "" if parts.port == _DEFAULT_PORTS.get(parts.scheme) else f":{parts.port}"


def _prefix(path: str) -> str | None:
    """Return the path before that of the GraphQL, without a final slash; None if clients could read it differently."""
    prefix = path.removesuffix("/").removesuffix(_GRAPHQL).removesuffix("/")
    segments = prefix.split("/")[1:]
    # A prefix that ends like the path of the GraphQL would be read as another origin the next time.
    is_clear = all(map(_SEGMENT.fullmatch, segments)) and not prefix.endswith(_GRAPHQL)
    return prefix if is_clear else None
