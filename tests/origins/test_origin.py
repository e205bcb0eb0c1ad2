"""The one parser of origins: where a token goes is compared, stored and handed out in the same spelling."""

import pytest

from persistence.origin import is_confidential, origin_of


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("HTTPS://GitLab.Example.ORG/", "https://gitlab.example.org"),
        (" https://gitlab.example.org \n", "https://gitlab.example.org"),
        ("https://gitlab.example.org/api/graphql", "https://gitlab.example.org"),
        ("https://gitlab.example.org./api/graphql/", "https://gitlab.example.org"),
        ("https://gitlab.example.org:443", "https://gitlab.example.org"),
        ("https://gitlab.example.org:8443/", "https://gitlab.example.org:8443"),
        ("https://gitlab.example.org:080", "https://gitlab.example.org:80"),
        ("http://gitlab.example.org:80", "http://gitlab.example.org"),
        ("https://example.org/GitLab/api/graphql", "https://example.org/GitLab"),
        ("https://git_lab.example.org", "https://git_lab.example.org"),
        ("https://Bücher.example", "https://xn--bcher-kva.example"),
        ("https://faß.example", "https://xn--fa-hia.example"),
        ("https://gitlab。example.org", "https://gitlab.example.org"),
        ("http://127.1:3000", "http://127.0.0.1:3000"),
        ("http://0x7f000001", "http://127.0.0.1"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://[2001:DB8:0:0::1]", "https://[2001:db8::1]"),
        ("https://[::ffff:192.0.2.1]", "https://192.0.2.1"),
    ],
)  # fmt: skip
def test_an_origin_has_one_spelling(url: str, origin: str) -> None:
    """Lower case, IDNA, no default port, no final dot; the prefix stays; and the origin of an origin is itself."""
    assert origin_of(url) == origin
    assert origin_of(origin) == origin


@pytest.mark.parametrize(
    "url",
    [
        "", "gitlab.example.org", "ftp://gitlab.example.org", "//gitlab.example.org", "https://", "https:///x",
        "https://@evil.example:notaport", "https://user@gitlab.example.org", "https://gitlab.example.org:0",
        "https://gitlab.example.org:65536", "https://gitlab.example.org:+443", "https://gitlab.example.org:4٣",
        'https://x"><script>alert(1)</script>', "https://gitlab.example.org\\@evil.example", "https://a b.example",
        "https://gitlab.exa\nmple.org", "https://gitlab.example.org?x", "https://gitlab.example.org/#x",
        "https://example.org/a/../b", "https://example.org/%2e%2e", "https://example.org//x", "https://example.org/api/graphql//",
        "https://example.org/api/graphql/api/graphql", "https://a..example",
        "https://-a.example", "https://[gitlab", "https://[fe80::1%25eth0]", "https://1.2.3.4.5", "https://256.1.1.1",
        "https://" + "a" * 64 + ".example", "https://" + "a." * 130 + "example", "https://x.example/" + "a" * 2000,
    ],
)  # fmt: skip
def test_what_parsers_could_read_differently_has_no_origin(url: str) -> None:
    """Credentials, ports that are none, queries, dots in paths, and characters that parsers drop."""
    assert origin_of(url) is None


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "169.254.169.254.",
        "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b::169.254.169.254]", "[2002:a9fe:a9fe::]",
        "[fe80::1]", "0.0.0.0", "0", "[::]", "224.0.0.1", "[ff02::1]",
        "\uff11\uff16\uff19.254.169.254",
    ],
)  # fmt: skip
def test_link_local_addresses_are_no_gitlab_however_they_are_written(host: str) -> None:
    """Numbers, octal and hexadecimal, IPv4 in IPv6: what is behind them serves a cloud's own credentials."""
    assert origin_of(f"https://{host}") is None


def test_only_https_and_this_machine_are_confidential() -> None:
    """A name that only looks like one of this machine is not."""
    kept = [
        "https://gitlab.example.org",
        "http://localhost:3000",
        "http://a.localhost",
        "http://127.0.0.1",
        "http://[::1]",
    ]

    assert all(map(is_confidential, kept))
    assert not is_confidential("http://gitlab.example.org")
    assert not is_confidential("http://localhost.example.org")
    assert not is_confidential("http://10.0.0.1")
