"""The figures of a gateway in the text format of Prometheus."""

from gateway.metrics import COUNTERS, Metrics


def test_figures_are_counted_and_shown() -> None:
    """Counters that are zero are shown too, so that a rate exists from the first on; refusals have their code."""
    metrics = Metrics()
    metrics.count("frames_in", 3)
    metrics.refused("too_large")
    metrics.gauge("links", "Open links.", lambda: 2)

    lines = metrics.as_text().splitlines()

    assert "crawlyard_gateway_frames_in_total 3" in lines
    assert "crawlyard_gateway_goodbyes_total 0" in lines
    assert 'crawlyard_gateway_refused_total{code="too_large"} 1' in lines
    assert "crawlyard_gateway_links 2" in lines
    assert len([line for line in lines if line.startswith("# TYPE")]) == len(COUNTERS) + 2
    assert metrics.figures() == {"frames_in": 3, "refused_too_large": 1, "links": 2}
