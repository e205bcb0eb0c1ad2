"""CRAWLYARD_GATEWAY_LISTEN: what it may say, and how it is told what is wrong."""

import grp

import pytest

from gateway.listeners.addresses import ListenAddress, read_addresses
from persistence.exceptions import SettingsError
from persistence.gateway_settings import GatewaySettings


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/a.sock", ListenAddress("unix", path="/run/a.sock")),
        ("unix:///run/a.sock", ListenAddress("unix", path="/run/a.sock")),
        ("unix:/a?mode=0600&group=0", ListenAddress("unix", path="/a", mode=0o600, group=0)),
        ("unix:/a?trust=peer", ListenAddress("unix", path="/a", trusts_peer=True)),
        (
            "unix:/a?trust=peer&uids=0,1000&dialect=original",
            ListenAddress("unix", path="/a", trusts_peer=True, uids=frozenset({0, 1000}), dialect="original"),
        ),
        ("tcp://127.0.0.1:7433", ListenAddress("tcp", host="127.0.0.1", port=7433)),
        ("tcp://localhost:0", ListenAddress("tcp", host="localhost", port=0)),
        ("tcp://[::1]:7433/", ListenAddress("tcp", host="::1", port=7433)),
        ("tcp://0.0.0.0:1?insecure=yes", ListenAddress("tcp", host="0.0.0.0", port=1)),
        ("tls://example.org:443", ListenAddress("tls", host="example.org", port=443)),
        ("ws://127.0.0.1:80", ListenAddress("ws", host="127.0.0.1", port=80)),
        ("wss://[::]:443?crawler=a-1", ListenAddress("wss", host="::", port=443, crawler="a-1")),
        (
            "tcp://127.0.0.1:7434?dialect=original&crawler=old",
            ListenAddress("tcp", host="127.0.0.1", port=7434, dialect="original", crawler="old"),
        ),
    ],
)
def test_an_address_is_read(text: str, address: ListenAddress) -> None:
    """Each kind, with each of its options."""
    assert read_addresses(text) == [address]


@pytest.mark.parametrize("between", [",", " ", "\n", ", ", " ,\n"])
def test_addresses_are_separated(between: str) -> None:
    """By commas or blanks; the commas within an option are not meant."""
    texts = ["unix:/a?trust=peer&uids=1,2", "tcp://127.0.0.1:1", "wss://h:2"]

    assert [str(one) for one in read_addresses(f" {between.join(texts)},")] == ["unix:/a", *texts[1:]]


def test_the_default_can_be_read() -> None:
    """It is local, since it is not encrypted."""
    [address] = read_addresses(GatewaySettings().gateway_listen)

    assert address.is_local
    assert not address.encrypted


def test_a_group_is_known_by_its_name() -> None:
    """As the system names it."""
    [name] = [one.gr_name for one in grp.getgrall() if one.gr_gid == 0]

    assert read_addresses(f"unix:/a?group={name}")[0].group == 0


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "set it, for example, to tcp://127.0.0.1:7433"),
        (" , ", "set it, for example"),
        ("7433", "an address begins with unix:, tcp://"),
        ("http://127.0.0.1:1", "an address begins with"),
        ("tcp://127.0.0.1", "write host and port alone, such as tcp://127.0.0.1:7433"),
        ("tcp://:1", "write host and port alone"),
        ("tcp://127.0.0.1:1/path", "write host and port alone"),
        ("tcp://127.0.0.1:70000", "its port must be a number up to 65535"),
        ("tcp://127.0.0.1:x", "its port must be a number"),
        ("tcp://[::1:1", "an IPv6 address stands in brackets"),
        ("unix:a", "write the whole path"),
        ("unix:/a/", "write the whole path"),
        ("unix://host/a", "write the whole path"),
        ("unix:/" + "a" * 107, "choose a shorter one"),
        ("unix:/a?mode=rw", "write it in octal"),
        ("unix:/a?mode=0999", "write it in octal"),
        ("unix:/a?group=no-such-group", "create the group first"),
        ("unix:/a?trust=all", "it may only be trust=peer"),
        ("unix:/a?uids=1", "write both, or neither"),
        ("unix:/a?trust=peer&uids=me", "such as uids=1000,1001"),
        ("unix:/a?trust=peer&uids=1,x", "such as uids=1000,1001"),
        ("unix:/a?mod=0660", "did you mean mode?"),
        ("unix:/a?zzz=1", "there are mode, group"),
        ("unix:/a?mode=", "write mode=…, or remove it"),
        ("unix:/a?mode=0660&mode=0600", "keep one of them"),
        ("tcp://127.0.0.1:1?mode=0660", "is for unix only; remove it"),
        ("tls://h:1?insecure=yes", "is for tcp, ws only; remove it"),
        ("tcp://10.0.0.1:1", "use tls://, or add insecure=yes"),
        ("tcp://0.0.0.0:1", "use tls://"),
        ("tcp://[::]:1", "use tls://"),
        ("tcp://example.org:1", "use tls://"),
        ("ws://10.0.0.1:1", "use wss://, or add insecure=yes"),
        ("ws://10.0.0.1:1?insecure=no", "write insecure=yes, or remove it"),
        ("unix:/a?dialect=other", "it may be original"),
        ("unix:/a?dialect=original", "add trust=peer"),
        ("unix:/a?dialect=original&crawler=a", "add trust=peer"),
        ("tcp://127.0.0.1:1?dialect=original", "crawler=NAME"),
        ("tcp://10.0.0.1:1?insecure=yes&dialect=original&crawler=a", "on loopback"),
        ("ws://127.0.0.1:1?dialect=original&crawler=a", "is for tcp, unix only"),
        ("tcp://127.0.0.1:1?crawler=a/b", "a crawler whose name is not"),
        ("tcp://127.0.0.1:1,ws://127.0.0.1:1", "names 127.0.0.1:1 twice"),
        ("unix:/a unix:/a?mode=0600", "names /a twice"),
    ],
)
def test_a_wrong_address_is_refused_with_its_remedy(text: str, remedy: str) -> None:
    """In one line, which names the setting."""
    with pytest.raises(SettingsError) as refused:
        read_addresses(text)

    assert str(refused.value).startswith("CRAWLYARD_GATEWAY_LISTEN ")
    assert remedy in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["tcp://user:hunter2@127.0.0.1:1", "tls://hunter2@h:x", "http://a:hunter2@h"]
)
def test_a_password_is_not_repeated(text: str) -> None:
    """Whoever writes one by mistake does not read it in a log."""
    with pytest.raises(SettingsError) as refused:
        read_addresses(text)

    assert "hunter2" not in str(refused.value)
