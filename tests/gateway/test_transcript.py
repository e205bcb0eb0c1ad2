"""The transcript of docs/wire-protocol.md, replayed against a real gateway."""

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from persistence.settings import settings
from support.gateway.crawlers import Wire
from support.gateway.systems import TOKEN, GatewaySystem
from support.processes.workers import wait_until
from support.wire.transcript import CRAWLER, REMARK, transcript

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.programs, pytest.mark.database]

UNLIKE = re.compile(
    r"(?P<id>[0-9A-HJKMNP-TV-Z]{26})|(?P<time>\d{4}-\d\d-\d\dT[0-9:.]+Z)|(?P<session>\S+\.session-\d)"
)
"""What differs in each run: ids, times, sessions. Ids and sessions stand for the same wherever they occur."""


class Replay:
    """The crawler of the transcript, and what happens around it."""

    def __init__(self, system: GatewaySystem) -> None:
        self._system = system
        self._actual: dict[str, str] = {"token-of-the-account": TOKEN}
        self._wire: Wire | None = None
        self._job = ""
        self.early: list[dict[str, Any]] = []
        """What has come before its line."""

    @property
    def wire(self) -> Wire:
        """The link; a new one after the one before was cut."""
        if self._wire is None:
            self._wire = Wire(self._system.socket)
        return self._wire

    def close(self) -> None:
        """Cut the link."""
        if self._wire:
            self._wire.close()

    def send(self, frame: dict[str, Any]) -> None:
        """Send the crawler's frame, with this run's ids."""
        sent = self._translated(frame)
        sent["data"].pop("secret", None)  # its user is trusted
        self.wire.send(sent["type"], sent.get("jobId"), sent.get("id"), **sent["data"])

    def expect(self, frame: dict[str, Any]) -> None:
        """
        Receive a frame, which is as the transcript has it; a value that differs in each run is learned.

        An acknowledgement and what follows from the acknowledged frame may come in either order.
        """
        same = [other for other in self.early if _kind(other) == _kind(frame)]
        while not same:
            received = self.wire.receive()
            assert received is not None, f"the link ended; the transcript has {frame}"
            assert "ack" in (received["type"], frame["type"]) or _kind(received) == _kind(frame), (
                frame,
                received,
            )
            (same if _kind(received) == _kind(frame) else self.early).append(received)
        if same[0] in self.early:
            self.early.remove(same[0])
        self._compare(frame, same[0], frame["type"])

    def _compare(self, written: Any, received: Any, where: str) -> None:
        if isinstance(written, dict):
            assert isinstance(received, dict), where
            assert written.keys() == received.keys(), where
            for key, value in written.items():
                self._compare(value, received[key], f"{where}.{key}")
        elif isinstance(written, list):
            assert len(written) == len(received), where
            for one, other in zip(written, received, strict=True):
                self._compare(one, other, where)
        elif where.endswith(".timestamp"):
            assert UNLIKE.fullmatch(received), where
        elif where == "job_revoked.data.reason":
            assert received in (
                written,
                "Closed",
            )  # a comparison of rows may find it before the event is read
        elif where.endswith(".heartbeatInterval"):
            assert received == settings().heartbeat_interval.total_seconds()  # less than by default
        elif isinstance(written, str) and (written in self._actual or UNLIKE.fullmatch(written)):
            assert self._actual.setdefault(written, received) == received, where
        else:
            assert received == written, where

    def _translated(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._translated(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._translated(part) for part in value]
        return self._actual.get(value, value) if isinstance(value, str) else value

    # What happens meanwhile

    def happen(self, remark: str) -> None:
        """Let that happen which a remark says; some remarks only explain."""
        happenings: dict[str, Callable[[], object]] = {
            "the web app orders a crawl of project 42": self._order_project,
            "the web app orders a discovery": self._order_discovery,
            "the link is cut; the crawler works on and connects again": self._cut,
            "somebody cancels it": self._cancel,
            "the gateway closes the link": self._end,
        }
        happenings.get(remark, bool)()

    def _order_project(self) -> None:
        self._job = self._system.submit("project", entity_id="42", namespace_path="group/project")

    def _order_discovery(self) -> None:
        self._job = self._system.submit("GROUP_PROJECT_DISCOVERY", namespace_path=None)

    def _cut(self) -> None:
        self.wire.close()
        self._wire = None

    def _cancel(self) -> None:
        found = "SELECT id FROM job WHERE spawned_from = %s"
        job = wait_until(lambda: self._system.system.rows(found, self._job), "it has found something")[0][0]
        self._system.system.publish("jobs.cancel", job_ids=[job])

    def _end(self) -> None:
        assert self.wire.receive() is None


def _kind(frame: dict[str, Any]) -> tuple[str, Any]:
    return frame["type"], frame["data"].get("id")


def test_a_real_gateway_says_what_the_transcript_says(system: GatewaySystem) -> None:
    """Line by line; what has no line does not come."""
    with closing(Replay(system)) as replay:
        for line in transcript():
            if line.side == REMARK:
                replay.happen(line.text)
            elif line.side == CRAWLER:
                replay.send(line.frame)
            else:
                replay.expect(line.frame)
        assert replay.early == []
