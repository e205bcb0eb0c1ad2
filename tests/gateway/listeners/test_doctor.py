"""What the doctor says of a gateway's settings: addresses, certificates, secrets and descriptors."""

import resource
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from console.checks.doctor import gateway
from console.checks.doctor.certificates import validity
from console.checks.doctor.finding import Finding
from persistence.settings import settings
from support.gateway.authority import Authority
from support.gateway.listening import set_servers

PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Settings that a test completes."""
    set_servers(monkeypatch)
    yield monkeypatch
    settings.cache_clear()


def examined(environment: pytest.MonkeyPatch, **variables: object) -> dict[str, Finding]:
    """What the doctor finds with these settings, by what it is about; the last one counts."""
    for name, value in variables.items():
        environment.setenv(f"CRAWLYARD_GATEWAY_{name}", str(value))
    settings.cache_clear()
    return {found.about: found for found in gateway.examine_gateway()}


def certified(
    environment: pytest.MonkeyPatch, authority: Authority, **valid: timedelta
) -> dict[str, Finding]:
    """What the doctor finds with a certificate that is valid for so long."""
    certificate, key = authority.issue(**valid)
    return examined(environment, LISTEN="tls://127.0.0.1:1", CERTIFICATE=certificate, KEY=key)


def test_the_defaults_are_fine(environment: pytest.MonkeyPatch) -> None:
    """Nothing about certificates, which are not needed."""
    found = examined(environment)

    assert found["the gateway's addresses"] == Finding(
        "the gateway's addresses", "ok", "tcp://127.0.0.1:7433"
    )
    assert found.keys() == {"the gateway's addresses", "the gateway's links"}


def test_a_wrong_address_is_a_fault(environment: pytest.MonkeyPatch) -> None:
    """With the remedy of the address itself."""
    [found] = examined(environment, LISTEN="tcp://10.0.0.1:1").values()

    assert (found.level, found.remedy) == ("fault", "Correct CRAWLYARD_GATEWAY_LISTEN.")
    assert "use tls://" in found.detail


@pytest.mark.parametrize(("scheme", "encrypted"), [("tcp", "tls://"), ("ws", "wss://")])
def test_a_plain_listener_off_loopback_is_a_warning(
    scheme: str, encrypted: str, environment: pytest.MonkeyPatch
) -> None:
    """Though somebody has written that it is meant."""
    found = examined(environment, LISTEN=f"{scheme}://0.0.0.0:1?insecure=yes")[f"{scheme}://0.0.0.0:1"]

    assert (found.level, encrypted in found.remedy) == ("warning", True)


def test_a_folder_in_which_a_socket_could_be_replaced_is_a_fault(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Unless only owners may remove what is in it, as in /tmp."""
    about = f"unix:{tmp_path}/gateway.sock"
    tmp_path.chmod(0o777)
    assert examined(environment, LISTEN=about)[about].level == "fault"
    tmp_path.chmod(0o1777)
    assert about not in examined(environment, LISTEN=about)


@pytest.mark.parametrize(
    ("left", "level", "detail"),
    [
        (timedelta(days=15), "ok", "is valid until"),
        (timedelta(days=13), "warning", "for 12 d"),
        (-timedelta(1), "fault", "ended on"),
    ],
)
def test_the_end_of_a_certificate_is_told(
    left: timedelta, level: str, detail: str, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two weeks before it comes."""
    found = certified(environment, Authority(tmp_path), valid_for=left)["the gateway's certificate"]

    assert (found.level, detail in found.detail) == (level, True)


def test_a_certificate_that_cannot_be_used_is_a_fault(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As is one that is missing."""
    found = examined(environment, LISTEN="wss://h:1", CERTIFICATE=tmp_path / "none")[
        "the gateway's certificate"
    ]
    assert (found.level, found.remedy) == ("fault", "Correct CRAWLYARD_GATEWAY_CERTIFICATE.")
    environment.delenv("CRAWLYARD_GATEWAY_CERTIFICATE")
    found = examined(environment)["the gateway's certificate"]
    assert (found.level, found.detail.startswith("must be set")) == ("fault", True)


def test_an_authority_ends_too(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What crawlers show is checked against it."""
    authority = Authority(tmp_path)
    found = certified(environment, authority) | examined(environment, CLIENT_AUTHORITY=authority.file)

    assert found["the authority of crawlers"].level == "ok"


def test_validity_is_that_of_the_whole_chain(tmp_path: Path) -> None:
    """A certificate is of no use longer than whoever issued it."""
    authority = Authority(tmp_path)
    long, _ = authority.issue("long", valid_for=timedelta(days=50))
    short, _ = authority.issue("short", valid_for=timedelta(days=5))
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"some text\n" + long.read_bytes() + short.read_bytes())

    begin, end = validity(chain)

    assert abs(end - datetime.now(UTC) - timedelta(days=5)) < timedelta(minutes=5)
    assert begin < datetime.now(UTC)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_is_no_validity(content: str, tmp_path: Path) -> None:
    """It is told, not guessed."""
    path = tmp_path / "certificate.pem"
    path.write_text(content)

    with pytest.raises(ValueError, match="it holds"):
        validity(path)


def test_secrets_that_others_may_read_are_a_warning(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The key, and each file that a setting for a secret names; not those that a container mounts."""
    certificate, key = Authority(tmp_path).issue()
    url = tmp_path / "url"
    url.write_text("postgresql://nowhere.invalid/none")
    environment.delenv("DATABASE_URL")
    environment.setenv("DATABASE_URL_FILE", str(url))
    asked = {"LISTEN": "tls://h:1", "CERTIFICATE": certificate, "KEY": key}
    url.chmod(0o640)
    assert "secrets" not in examined(environment, **asked)
    for path in (url, key):
        path.chmod(0o644)
        found = examined(environment, **asked)["secrets"]
        assert (found.level, found.remedy) == ("warning", f"Say chmod o-rwx {path}.")
        path.chmod(0o600)
    url.chmod(0o644)
    environment.setattr(gateway, "_MOUNTED", (tmp_path,))
    assert "secrets" not in examined(environment, **asked)


@pytest.mark.parametrize(
    ("hard", "asked", "level", "links"),
    [
        (20_000, None, "ok", "19,800"),
        (20_000, 500, "ok", "500"),
        (resource.RLIM_INFINITY, None, "ok", "1,048,376"),
        (1024, None, "warning", "824"),
        (4096, 5000, "warning", "3,896"),
        (150, None, "fault", "0"),
    ],
)
def test_the_links_that_descriptors_allow_are_told(
    hard: int, asked: int | None, level: str, links: str, environment: pytest.MonkeyPatch
) -> None:
    """A warning where they are few, or fewer than asked for."""
    environment.setattr(resource, "getrlimit", lambda kind: (100, hard))
    found = examined(environment, **({"MAX_LINKS": asked} if asked else {}))["the gateway's links"]

    assert (found.level, found.detail.startswith(f"at most {links}:")) == (level, True)
