"""The figures of a gateway in the text format of Prometheus."""

import asyncio

import pytest

from gateway.metrics import COUNTERS, Metrics
from gateway.metrics_server import MetricsServer, read_place
from persistence.exceptions import SettingsError


def test_figures_are_counted_and_shown() -> None:
    """Counters that are zero are shown too, so that a rate exists from the first on; refusals have their code."""
    metrics = Metrics()
    metrics.count("frames_in", 3)
    metrics.refused("too_large")
    metrics.bounds["rate"] += 2
    metrics.gauge("links", "Open links.", lambda: 2)

    lines = metrics.as_text().splitlines()

    assert "crawlyard_gateway_frames_in_total 3" in lines
    assert "crawlyard_gateway_goodbyes_total 0" in lines
    assert 'crawlyard_gateway_refused_total{code="too_large"} 1' in lines
    assert 'crawlyard_gateway_bounds_reached_total{code="rate"} 2' in lines
    assert "crawlyard_gateway_links 2" in lines
    assert len([line for line in lines if line.startswith("# TYPE")]) == len(COUNTERS) + 3
    assert metrics.figures() == {"frames_in": 3, "refused_too_large": 1, "bound_rate": 2, "links": 2}


@pytest.mark.parametrize(
    ("request_line", "status", "text"),
    [
        ("GET /metrics HTTP/1.1", 200, "crawlyard_gateway_frames_in_total 3"),
        ("GET /live HTTP/1.1", 200, "live"),
        ("GET /ready HTTP/1.1", 503, "draining"),
        ("HEAD /ready HTTP/1.1", 503, ""),
        ("GET /ready?x=1 HTTP/1.1", 503, "draining"),
        ("GET / HTTP/1.1", 404, "there are"),
        ("POST /metrics HTTP/1.1", 405, "GET only"),
        ("nonsense", 405, "GET only"),
    ],
)
def test_figures_are_served(request_line: str, status: int, text: str) -> None:
    """Probes learn by the status; one request a connection."""
    assert asked(request_line.encode() + b"\r\nHost: x\r\n\r\n") == (status, text)


def test_what_is_no_request_gets_no_answer() -> None:
    """Neither half a request nor an endless one is kept."""
    assert asked(b"GET /metrics HTTP/1.1\r\n", end=True) == (0, "")
    assert asked(b"GET /" + b"x" * 100_000) == (0, "")


def asked(request: bytes, *, end: bool = False) -> tuple[int, str]:
    """Send a request to a draining gateway; returns the status and the first line that matters; 0 without an answer."""
    metrics = Metrics()
    metrics.count("frames_in", 3)

    async def ask() -> bytes:
        async with MetricsServer(metrics, lambda: "draining").listen("127.0.0.1", 0) as (host, port):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            if end:
                writer.write_eof()
            try:
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()

    head, _, body = asyncio.run(ask()).decode().partition("\r\n\r\n")
    first = next((line for line in body.splitlines() if "frames_in_total 3" in line), body[:9].strip())
    return int(head.split()[1]) if head else 0, first


@pytest.mark.parametrize("text", ["9433", "host:", ":9433", "host:x", "host:99999"])
def test_the_address_must_be_a_host_and_a_port(text: str) -> None:
    """The message names the setting."""
    assert read_place("[::1]:9433") == ("::1", 9433)
    with pytest.raises(SettingsError, match="CRAWLYARD_GATEWAY_METRICS"):
        read_place(text)
