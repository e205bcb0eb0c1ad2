"""URLs of GitLabs as web apps, attackers and parsers write them."""

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

GRAPHQL = "/api/graphql"

_NUMBERS = st.sampled_from(
    [0xA9FEA9FE, 0xA9FE0000, 0xA9FEFFFF, 0, 1, 0x7F000001, 0x0A000001, 0xC0000201, 0xE0000001, 0xFFFFFFFF]
) | st.integers(0, 2**32 - 1)
"""Link-local, unspecified, loopback, private, public and multicast addresses."""

_FORBIDDEN = ("is_link_local", "is_multicast", "is_unspecified")
"""What an address must not be."""

_BASES = (str, "0{:o}".format, "000{:o}".format, "0x{:x}".format, "0X{:X}".format, "0x000{:x}".format)
"""How one number of an address is written."""

_FULLWIDTH = {ord("0") + digit: 0xFF10 + digit for digit in range(10)}

_IN_IPV6 = (
    "[::ffff:{high:x}:{low:x}]",
    "[::FFFF:{plain}]",
    "[64:ff9b::{plain}]",
    "[2002:{high:x}:{low:x}::1]",
)

_IPV6 = st.sampled_from(
    [
        "[fe80::1]",
        "[FEBF:0::a]",
        "[fe80::1%25eth0]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[ff02::1]",
        "[2001:DB8::0:1]",
        "[::1",
        "::1",
    ]
) | st.ip_addresses(v=6).flatmap(lambda found: st.sampled_from([f"[{found}]", f"[{found.exploded}]"]))

_NAMES = [
    "gitlab",
    "GitLab",
    "git_lab",
    "a-b",
    "xn--bcher-kva",
    "bücher",
    "faß",
    "İ",
    "ⅷ",
    "example",
    "org",
    "x1",
]
_LABELS = st.sampled_from([*_NAMES, "-a", "a-", "", "1", "0x", "0x1g", "a%b", "é", "a" * 63, "a" * 64, "ﬃ"])
_DOTS = st.sampled_from([".", ".", ".", "\u3002", "\uff0e"])
_PORTS = st.sampled_from(
    [*[""] * 6, ":443", ":80", ":0443", ":8443", ":", ":0", ":65535", ":65536", ":x", ":-1", ":+1", ":4٣"]
)
_SEGMENTS = st.sampled_from(
    ["gitlab", "Git-Lab", "a.b", "~x", "..", ".", "", "%2e", "%2F", "ü", "a b", "api", ";x"]
)
_ENDS = st.sampled_from([*[""] * 6, "/", "?", "?a", "#", "#x", "/?/", "\n", " ", "\t/", "\\@evil.example"])
_USERS = st.sampled_from([*[""] * 8, "@", "u@", "u:p@", "169.254.169.254@"])
_SCHEMES = st.sampled_from(["https", "https", "http", "HTTPS", "hTTp", "ftp", "", "javascript", "https:"])


class Spelled(NamedTuple):
    """An address, and one of the ways to write it as a host."""

    host: str
    address: IPv4Address

    @property
    def is_forbidden(self) -> bool:
        """True if a token must not go there."""
        return is_forbidden(self.address)


def is_forbidden(address: IPv4Address | IPv6Address) -> bool:
    """Return True if a token must not go to this address."""
    return any(getattr(address, kind) for kind in _FORBIDDEN)


@st.composite
def spelled(draw: DrawFn) -> Spelled:
    """Draw an IPv4 address as one to four numbers of any base, or within an IPv6 address."""
    number = draw(_NUMBERS)
    address = IPv4Address(number)
    if draw(st.integers(0, 3)) == 0:
        form = draw(st.sampled_from(_IN_IPV6))
        return Spelled(form.format(high=number >> 16, low=number & 0xFFFF, plain=address), address)
    count = draw(st.integers(1, 4))
    firsts = [number >> 8 * (3 - place) & 0xFF for place in range(count - 1)]
    last = number & (1 << 8 * (5 - count)) - 1
    host = draw(_DOTS).join(draw(st.sampled_from(_BASES))(part) for part in (*firsts, last))
    host = host.translate(_FULLWIDTH) if draw(st.integers(0, 7)) == 0 else host
    return Spelled(host + draw(st.sampled_from(["", "", "."])), address)


@st.composite
def _names(draw: DrawFn) -> str:
    labels = draw(st.lists(_LABELS, min_size=1, max_size=4))
    name = labels[0]
    for label in labels[1:]:
        name += draw(_DOTS) + label
    return name + draw(st.sampled_from(["", "", "."]))


@st.composite
def urls(draw: DrawFn) -> str:
    """Draw the URL of a GitLab, right or wrong in any part."""
    host = draw(_names() | spelled().map(lambda one: one.host) | _IPV6 | st.text(max_size=8))
    prefix = "".join(f"/{segment}" for segment in draw(st.lists(_SEGMENTS, max_size=2)))
    graphql = draw(st.sampled_from(["", GRAPHQL, f"{GRAPHQL}/"]))
    return f"{draw(_SCHEMES)}://{draw(_USERS)}{host}{draw(_PORTS)}{prefix}{graphql}{draw(_ENDS)}"


def good_urls() -> st.SearchStrategy[str]:
    """Return URLs that name a GitLab."""
    names = st.sampled_from(
        ["gitlab", "GitLab.example.ORG", "git_lab.example.org.", "b\u00fccher.example", "xn--p1ai"]
    )
    hosts = names | spelled().filter(lambda one: not one.is_forbidden).map(lambda one: one.host)
    ports = st.sampled_from(["", ":", ":443", ":80", ":8443"])
    prefixes = st.sampled_from(["", "/", "/Git-Lab", "/a.b/~c"])
    ends = st.sampled_from(["", GRAPHQL, f"{GRAPHQL}/"])
    parts = st.tuples(st.sampled_from(["http", "HTTPS"]), hosts, ports, prefixes, ends)
    return parts.map(lambda drawn: f"{drawn[0]}://{''.join(drawn[1:])}")
