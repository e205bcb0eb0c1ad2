"""The double of the original crawler sends, frame for frame, what was recorded from that crawler."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.wire.original import GitLab, Listing, OriginalCrawler

RECORDED = [json.loads(line) for line in Path(__file__).with_name("recorded.ndjson").read_text().splitlines()]
SCENARIOS = sorted({row["scenario"] for row in RECORDED})
PACE = 100.0

AREAS = [
    {"job_type": kind, "entity_id": number, "namespace_path": path, "entity_name": name, "priority": 1}
    for kind, number, path, name in (
        ("crawl_group", "11", "a-team", "A-Team"),
        ("crawl_project", "101", "a-team/app", "App"),
        ("crawl_project", "102", "a-solo/tool", "Tool"),
    )
]


def gitlab() -> GitLab:
    """The GitLab of the recording."""
    listings = {"fake-a": Listing(AREAS), "fake-a-new": Listing(AREAS), "fake-a-slow": Listing(AREAS, 6)}
    return GitLab("http://127.0.0.1:8929", listings)


def without_chatter(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out heartbeats and the requests of an idle crawler, which the recording thinned out."""
    kept, is_first = [], False
    for row in rows:
        is_first = is_first or row.get("event") == "open"
        raw = row.get("raw", "")
        if row.get("from") == "crawler" and (
            '"heartbeat"' in raw or ('"job_request"' in raw and not is_first)
        ):
            continue
        is_first = is_first and '"job_request"' not in raw
        kept.append(row)
    return kept


def comparable(frame: dict[str, Any]) -> str:
    """A frame without times and stack traces; the order of its fields counts."""
    return json.dumps(_stripped(frame))


def _stripped(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: "…" if key in ("timestamp", "stackTrace", "stack") else _stripped(part)
        for key, part in value.items()
    }


class Server:
    """Plays the server's side of a scenario, and collects what the crawler sends."""

    def __init__(self) -> None:
        self._links: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._decoder = json.JSONDecoder()
        self._text = ""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a link."""
        await self._links.put((reader, writer))

    async def open(self) -> None:
        """Wait for the next link."""
        self._reader, self._writer = await self._links.get()

    async def close(self) -> None:
        """End the link."""
        self._writer.close()
        await self._writer.wait_closed()

    async def send(self, raw: str) -> None:
        """Send what was recorded; one frame was sent in UTF-8, and cut within a character."""
        note, _, text = raw.rpartition("(utf-8, cut inside ö) ")
        if not note and raw == text:
            self._writer.write(raw.encode())
            return
        data = text.encode()
        cut = data.index("ö".encode()) + 1
        self._writer.write(data[:cut])
        await self._writer.drain()
        await asyncio.sleep(0.1)
        self._writer.write(data[cut:])

    async def next_frame(self) -> dict[str, Any]:
        """Read the next frame that is no chatter."""
        while True:
            try:
                frame, end = self._decoder.raw_decode(self._text)
            except ValueError:
                chunk = await self._reader.read(65536)
                assert chunk, "the crawler has closed its link"
                self._text += chunk.decode()
                continue
            self._text = self._text[end:]
            if (frame["type"] == "job_request" and self._asked) or frame["type"] == "heartbeat":
                continue
            self._asked = True
            return dict(frame)

    _asked = False

    def expect_request(self) -> None:
        """Of each link, the first request for work counts."""
        self._asked = False


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_sends_what_was_recorded(scenario: str, tmp_path: Path) -> None:
    """The server says what it said then, and the double answers as the crawler did."""

    async def test() -> None:
        server = Server()
        path = str(tmp_path / "s")
        listening = await asyncio.start_unix_server(server.accept, path)
        crawler = OriginalCrawler(lambda: asyncio.open_unix_connection(path), gitlab(), PACE)
        running = asyncio.create_task(crawler.run())
        for row in without_chatter([row for row in RECORDED if row["scenario"] == scenario]):
            if row.get("event") == "open":
                server.expect_request()
                await server.open()
            elif row.get("event") == "eof":
                await server.close()
            elif row["from"] == "server":
                await server.send(row["raw"])
            else:
                recorded, frame = json.loads(row["raw"]), await server.next_frame()
                if frame["type"] == "job_started" != recorded["type"]:
                    frame = await server.next_frame()  # the recording lacks some of them
                assert comparable(frame) == comparable(recorded)
        running.cancel()
        listening.close()

    asyncio.run(asyncio.wait_for(test(), 20))
