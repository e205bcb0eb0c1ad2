"""Whatever URL names a GitLab, what is accepted is one canonical origin, and no place where a token must not go."""

import re
import socket
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

import httpx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from persistence.origin import graphql_url, origin_of
from proofs.fuzz.origins import GRAPHQL, Spelled, good_urls, is_forbidden, spelled, urls
from support.depth import deep

FUZZED = settings(
    max_examples=20_000 if deep() else 100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)

CANONICAL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:]+\])(?P<port>:[1-9][0-9]{0,4})?"
    r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*"
)

DEFAULT_PORTS = {"http": ":80", "https": ":443"}
ENDS = ["", "/", GRAPHQL, f"{GRAPHQL}/"]


@FUZZED
@given(urls())
def test_what_is_accepted_is_one_canonical_origin(url: str) -> None:
    """It is its own origin, alone and as the URL of a job; and an HTTP client reads it as it is written."""
    origin = origin_of(url)
    if origin is None:
        return

    assert origin_of(origin) == origin_of(graphql_url(origin)) == origin_of(f"{origin}/") == origin
    scheme, host, port, _ = _parts(origin)
    assert port != DEFAULT_PORTS[scheme]
    read = httpx.URL(f"{origin}/oauth/token")
    assert (read.scheme, read.userinfo, read.query, read.fragment) == (scheme, b"", b"", "")
    assert read.raw_host.decode() == host.strip("[]")
    assert read.port == (int(port[1:]) if port else None)


@FUZZED
@given(urls())
def test_no_accepted_host_is_link_local(url: str) -> None:
    """Nor multicast or unspecified, as the C library reads it, which is what connects in the end."""
    origin = origin_of(url)
    if origin is None:
        return

    host = urlsplit(origin).hostname or ""
    try:
        address = ip_address(socket.inet_ntoa(socket.inet_aton(host)))
    except OSError:
        if ":" not in host:
            return
        address = IPv6Address(host)
        assert address.ipv4_mapped is None
    assert str(address) == host
    assert not is_forbidden(address)


@FUZZED
@given(spelled(), st.sampled_from(["", ":3000"]))
@example(Spelled("169.254.43518", ip_address("169.254.169.254")), "")  # type: ignore[arg-type]
def test_an_address_is_one_however_it_is_written(one: Spelled, port: str) -> None:
    """Numbers of any base and count, IPv4 within IPv6: refused if its address is, else written in one way."""
    expected = None if one.is_forbidden else f"https://{one.address}{port}"
    assert origin_of(f"https://{one.host}{port}") == expected


@FUZZED
@given(
    good_urls(),
    st.sampled_from([str.upper, str.title, str.lower]),
    st.sampled_from(ENDS),
    st.booleans(),
)
def test_an_origin_does_not_depend_on_its_spelling(
    url: str,
    change: Callable[[str], str],
    end: str,
    is_rooted: bool,  # noqa: FBT001 - drawn
) -> None:
    """Case, a final dot, the default port, a final slash and the path of the GraphQL make no difference."""
    origin = origin_of(url)
    assert origin
    scheme, host, port, prefix = _parts(origin)
    host += "." if is_rooted and not host.startswith("[") else ""
    port = port or (DEFAULT_PORTS[scheme] if is_rooted else "")

    assert origin_of(f"{change(scheme)}://{change(host)}{port}{prefix}{end}") == origin


def _parts(origin: str) -> tuple[str, str, str, str]:
    """Split a canonical origin into scheme, host, port with its colon, and prefix."""
    found = CANONICAL.fullmatch(origin)
    assert found, origin
    return (
        found["scheme"],
        found["host"],
        found["port"] or "",
        origin[found.end("host") + len(found["port"] or "") :],
    )
