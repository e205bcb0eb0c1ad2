"""
What the gateway counts, for its operators: a few figures by name, and the bounds by the code of their error.

No id, name or address is ever a label: there are as many figures for 10,000 crawlers as for one.
"""

from collections import Counter
from collections.abc import Callable, Sequence

COUNTERS = {
    "links_accepted": "Sockets that were accepted.",
    "links_welcomed": "Links that were welcomed.",
    "links_resumed": "Of these, links of a connection that was there before.",
    "links_lost": "Links that ended without a goodbye.",
    "goodbyes": "Links that ended with a goodbye.",
    "frames_in": "Frames from crawlers.",
    "bytes_in": "Their bytes.",
    "frames_out": "Frames to crawlers.",
    "acknowledged": "Frames that were acknowledged.",
    "orders_handed_over": "Orders that crawlers were given.",
    "orders_revoked": "Orders that crawlers were told to drop.",
    "messages_published": "Messages that the broker took.",
    "messages_repeated": "Of these, messages that were published again, since they were not handled in time.",
    "publish_failures": "Attempts to publish that failed.",
    "polls": "Reads of the orders.",
    "poll_failures": "Reads that failed.",
    "crawler_id_shared": "Hellos of a crawlerId whose connection is reached over another open link.",
}
"""The counters and what each counts; those of `refused` are apart."""

Gauge = Callable[[], float]


class Metrics:
    """The figures of one gateway. Counting is cheap enough for each frame."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._gauges: dict[str, tuple[str, Gauge]] = {}
        self.bounds: Counter[str] = Counter()
        """How often sockets reached each bound of gateway/listeners/bounds.py, whether or not a crawler was told."""

    def count(self, name: str, n: int = 1) -> None:
        """Count what COUNTERS names."""
        self.counts[name] += n

    def refused(self, code: str) -> None:
        """Count an error that a crawler was told, by its code."""
        self.refusals[code] += 1

    def gauge(self, name: str, help_text: str, read: Gauge) -> None:
        """Show what *read* returns whenever the figures are read; it must not block."""
        self._gauges[name] = help_text, read

    def figures(self) -> dict[str, float]:
        """Everything that is not zero, by name."""
        counted = {name: float(n) for name, n in self.counts.items() if n}
        refused = {f"refused_{code}": float(n) for code, n in self.refusals.items()}
        bounds = {f"bound_{code}": float(n) for code, n in self.bounds.items()}
        return counted | refused | bounds | {name: float(read()) for name, (_, read) in self._gauges.items()}

    def as_text(self) -> str:
        """Everything in the text format of Prometheus."""
        lines: list[str] = []
        for name, help_text in COUNTERS.items():
            lines += _described(f"{name}_total", "counter", help_text, [("", self.counts[name])])
        refused = [(f'{{code="{code}"}}', n) for code, n in sorted(self.refusals.items())]
        lines += _described("refused_total", "counter", "Errors that crawlers were told, by code.", refused)
        bounds = [(f'{{code="{code}"}}', n) for code, n in sorted(self.bounds.items())]
        lines += _described(
            "bounds_reached_total", "counter", "How often sockets reached a bound, by code.", bounds
        )
        for name, (help_text, read) in sorted(self._gauges.items()):
            lines += _described(name, "gauge", help_text, [("", read())])
        return "\n".join([*lines, ""])


metrics = Metrics()
"""Those of this process, which is one gateway."""


def _described(name: str, kind: str, help_text: str, values: Sequence[tuple[str, float]]) -> list[str]:
    name = f"crawlyard_gateway_{name}"
    samples = [f"{name}{labels} {value:.15g}" for labels, value in values]
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *samples]
