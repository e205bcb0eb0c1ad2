"""Links over TLS: who is served, with which certificate, and how it is renewed."""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from gateway.listeners import listeners
from gateway.listeners.addresses import read_addresses
from gateway.listeners.tls import Tls
from persistence.exceptions import SettingsError
from persistence.settings import settings
from support.gateway.authority import Authority
from support.gateway.listening import LIMITS, Listening, listening, run, set_servers, until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority of this module."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def configured(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Settings that name a certificate of the authority."""
    certificate, key = authority.issue()
    set_servers(monkeypatch)
    monkeypatch.setenv("CRAWLYARD_GATEWAY_CERTIFICATE", str(certificate))
    monkeypatch.setenv("CRAWLYARD_GATEWAY_KEY", str(key))
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


TLS = "tls://127.0.0.1:0"


def serial(writer: asyncio.StreamWriter) -> str:
    """The number of the certificate that a gateway has shown."""
    return str(writer.get_extra_info("peercert")["serialNumber"])


def test_frames_go_in_and_out_over_tls(authority: Authority, configured: pytest.MonkeyPatch) -> None:
    """As over TCP; also those that fill more than a record."""

    async def test() -> None:
        async with listening(TLS) as gateway:
            reader, writer = await gateway.greet(ssl=authority.trusting())
            [link] = gateway.links
            long = b'{"a":"' + b"x" * 200_000 + b'"}'
            writer.write(long + b"\n")
            await until(lambda: len(link.frames) == 2)
            assert link.frames[1] == long
            link.transport.send(long)
            link.transport.close()
            assert (await reader.read()) == long + b"\n"
            await until(lambda: link.ended)

    run(test())


def test_a_crawler_must_show_a_certificate_if_an_authority_is_set(
    authority: Authority, configured: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that shows none, or one of another authority, makes no link."""
    configured.setenv("CRAWLYARD_GATEWAY_CLIENT_AUTHORITY", str(authority.file))
    settings.cache_clear()

    async def refused(gateway: Listening, context: ssl.SSLContext) -> bool:
        """Whether the gateway refuses it; with TLS 1.3 the crawler learns that at its first read."""
        try:
            reader, _ = await gateway.connect(ssl=context)
            return await reader.read() == b""
        except (ssl.SSLError, ConnectionError):
            return True

    async def test() -> None:
        stranger = authority.trusting()
        stranger.load_cert_chain(*Authority(tmp_path).issue())
        async with listening(TLS) as gateway:
            assert await refused(gateway, authority.trusting())
            assert await refused(gateway, stranger)
            assert gateway.links == []
            await until(lambda: gateway.listeners.counters["handshake_failed"] == 2)
            _, _ = await gateway.greet(ssl=authority.trusting("crawler"))
            assert gateway.listeners.links == 1

    run(test())


def test_old_versions_of_tls_are_refused(authority: Authority, configured: pytest.MonkeyPatch) -> None:
    """TLS 1.2 is the oldest that is spoken."""

    async def test() -> None:
        async with listening(TLS) as gateway:
            assert gateway.listeners._tls is not None
            assert gateway.listeners._tls.context.minimum_version == ssl.TLSVersion.TLSv1_2

    run(test())


def test_plain_text_at_an_encrypted_address_is_refused(configured: pytest.MonkeyPatch) -> None:
    """It makes no link, and the log says why, but at most once a second: strangers must not fill it."""

    async def test() -> None:
        async with listening(TLS) as gateway:
            for _ in range(3):
                reader, writer = await gateway.connect()
                writer.write(b'{"type":"hello"}\n')
                await reader.read()
            await until(lambda: gateway.listeners.counters["handshake_failed"] == 3)
            assert (gateway.links, gateway.listeners.links) == ([], 0)

    with capture_logs() as logs:
        run(test())
    told = [entry for entry in logs if entry["event"] == "handshake_failed"]
    assert len(told) in (1, 2)
    assert told[0]["listener"].startswith("tls://127.0.0.1:")


def test_a_handshake_that_is_not_finished_is_ended(configured: pytest.MonkeyPatch) -> None:
    """It counts as a stranger until then."""

    async def test() -> None:
        async with listening(TLS, limits=replace(LIMITS, handshake=0.2)) as gateway:
            reader, _ = await gateway.connect()
            await until(lambda: gateway.listeners.strangers == 1)
            assert await reader.read() == b""
            await until(lambda: gateway.listeners.links == 0)
            assert gateway.listeners.counters == {"handshake_failed": 1}

    run(test())


def test_a_renewed_certificate_is_shown_to_new_links(
    authority: Authority, configured: pytest.MonkeyPatch
) -> None:
    """After reload(); links that are open go on."""

    async def test() -> None:
        async with listening(TLS) as gateway:
            _, first = await gateway.greet(ssl=authority.trusting())
            authority.issue()
            _, second = await gateway.greet(ssl=authority.trusting())
            gateway.listeners.reload()
            _, third = await gateway.greet(ssl=authority.trusting())
            assert serial(first) == serial(second) != serial(third)
            first.write(b"{}\n")
            await until(lambda: len(gateway.links[0].frames) == 2)

    run(test())


def test_a_changed_file_is_noticed(authority: Authority, configured: pytest.MonkeyPatch) -> None:
    """Without a signal, as where a container's secret is replaced."""
    configured.setattr(listeners, "_LOOK_AT_FILES_S", 0.02)

    async def test() -> None:
        async with listening(TLS) as gateway:
            assert gateway.listeners._tls is not None
            before = gateway.listeners._tls.context
            authority.issue()
            await until(
                lambda: gateway.listeners._tls is not None and gateway.listeners._tls.context is not before
            )

    run(test())


def test_a_certificate_that_cannot_be_used_leaves_the_one_before(
    authority: Authority, configured: pytest.MonkeyPatch
) -> None:
    """A key that does not fit, as between two writes, changes nothing; the next look at the files tries again."""

    async def test() -> None:
        async with listening(TLS) as gateway:
            tls = gateway.listeners._tls
            assert tls is not None
            before, key = tls.context, tls.key
            assert key is not None
            other = authority.issue("other")[1].read_bytes()
            fitting = key.read_bytes()
            key.write_bytes(other)
            gateway.listeners.reload()
            assert tls.context is before
            assert tls.changed()
            key.write_bytes(fitting)
            gateway.listeners.reload()
            assert tls.context is not before

    with capture_logs() as logs:
        run(test())
    (refused,) = (entry for entry in logs if entry["event"] == "certificate_not_loaded")
    assert "CRAWLYARD_GATEWAY_KEY is not the key of CRAWLYARD_GATEWAY_CERTIFICATE" in refused["error"]


def test_an_encrypted_address_needs_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting."""
    set_servers(monkeypatch)
    monkeypatch.delenv("CRAWLYARD_GATEWAY_CERTIFICATE", raising=False)
    settings.cache_clear()

    async def test() -> None:
        with pytest.raises(SettingsError, match="CRAWLYARD_GATEWAY_CERTIFICATE must be set"):
            await listeners.Listeners(read_addresses(TLS), lambda transport: 1 / 0, LIMITS).start()

    run(test())


@pytest.mark.parametrize(
    ("content", "reason"),
    [("", "no PEM"), ("-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n", "")],
)
def test_a_file_without_a_certificate_is_named(
    content: str, reason: str, tmp_path: Path, authority: Authority
) -> None:
    """The error names the settings, and what the files must be."""
    certificate = tmp_path / "certificate.pem"
    certificate.write_text(content)

    with pytest.raises(SettingsError, match="CRAWLYARD_GATEWAY_CERTIFICATE or CRAWLYARD_GATEWAY_KEY"):
        Tls(certificate, authority.issue("unused")[1], None)


def test_a_missing_file_is_named(tmp_path: Path, authority: Authority) -> None:
    """So is a file that is not there, or that holds no authorities."""
    certificate, key = authority.issue("mine")

    with pytest.raises(SettingsError, match="No such file"):
        Tls(certificate, tmp_path / "none", None)
    with pytest.raises(SettingsError, match="CRAWLYARD_GATEWAY_CLIENT_AUTHORITY names a file"):
        Tls(certificate, key, tmp_path / "none")
    with pytest.raises(SettingsError, match="CRAWLYARD_GATEWAY_CLIENT_AUTHORITY names a file"):
        Tls(certificate, key, key)


def test_a_key_with_a_password_is_refused(tmp_path: Path, authority: Authority) -> None:
    """Nobody is asked for the password at the terminal."""
    certificate, key = authority.issue("locked")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"anything"),
        )
    )

    with pytest.raises(SettingsError, match="has a password"):
        Tls(certificate, key, None)
