"""Frames are found however a link cuts them, in linear time, and within the bound of a frame."""

import random
import time
from collections.abc import Callable

import orjson
import pytest

from gateway.wire.splitter import MAX_DEPTH, BadFrameError, LineSplitter, Splitter, ValueSplitter

FRAMES = [
    b'{"type":"heartbeat","data":{"activeJobs":["a","b"],"uptime":1.5}}',
    '{"type":"job_failed","data":{"error":"} { ] [ \\" \\\\ ü 漢 \\u007b"}}'.encode(),
    b"{}",
    b'{"a":[[{"b":"\\\\"}],"\\\\\\""]}',
    orjson.dumps({"discovered": [{"name": f"{{{n}"} for n in range(300)]}),
]

SPLITTERS = [LineSplitter, ValueSplitter]


def joined(kind: type[Splitter], frames: list[bytes]) -> bytes:
    """The frames as a crawler sends them: the original one puts nothing between them."""
    return b"".join(frame + b"\n" for frame in frames) if kind is LineSplitter else b"".join(frames)


def split(splitter: Splitter, stream: bytes, size: Callable[[], int], limit: int = 1_000_000) -> list[bytes]:
    """Feed the stream in chunks of such sizes."""
    frames, at = [], 0
    while at < len(stream):
        chunk = stream[at : at + size()]
        at += len(chunk)
        splitter.feed(chunk)
        while (frame := splitter.next_frame(limit)) is not None:
            frames.append(frame)
    return frames


@pytest.mark.parametrize("kind", SPLITTERS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000, 65536])
def test_frames_are_found_however_they_are_cut(kind: type[Splitter], size: int) -> None:
    """A read of the socket may end within a frame, a string, an escape or a character."""
    splitter = kind()

    assert split(splitter, joined(kind, FRAMES * 3), lambda: size) == FRAMES * 3
    assert splitter.held == 0
    assert not splitter.unfinished


@pytest.mark.parametrize("kind", SPLITTERS)
def test_random_frames_in_random_cuts_are_found(kind: type[Splitter]) -> None:
    """The same for strings of whatever would confuse a splitter."""
    rng = random.Random(7)
    for _ in range(300):
        frames = [
            orjson.dumps(
                {"".join(rng.choices('{}[]"\\ü,a', k=rng.randrange(9))): [1, {"b": [rng.choice('"\\{')]}]}
            )
            for _ in range(5)
        ]
        assert split(kind(), joined(kind, frames), lambda: rng.randrange(1, 12)) == frames


def test_blanks_between_objects_are_no_frames() -> None:
    """The original dialect has nothing between its objects, but a newline does no harm."""
    splitter = ValueSplitter()

    assert split(splitter, b' \n{"a":1}\r\n \t{}  ', lambda: 3) == [b'{"a":1}', b"{}"]
    assert splitter.held == 0


@pytest.mark.parametrize("junk", [b"x", b"]", b'"{}"', b"1{}", b"\xff", b"[{}]", b"\x00"])
def test_what_is_no_object_is_refused(junk: bytes) -> None:
    """Without a delimiter nothing says where the next frame would begin."""
    splitter = ValueSplitter()
    splitter.feed(b"{}" + junk)

    assert splitter.next_frame(100) == b"{}"
    with pytest.raises(BadFrameError) as refused:
        splitter.next_frame(100)

    assert refused.value.code == "malformed"


@pytest.mark.parametrize("kind", SPLITTERS)
@pytest.mark.parametrize("size", [1, 10, 4096])
def test_a_frame_beyond_its_bound_is_refused_before_it_is_held(kind: type[Splitter], size: int) -> None:
    """A frame of just the bound passes; one more byte does not, and no more than bound and one read is ever held."""
    exact = b'{"a":"' + b"x" * 92 + b'"}'
    assert split(kind(), joined(kind, [exact]), lambda: size, limit=100) == [exact]
    splitter, most = kind(), 0

    with pytest.raises(BadFrameError) as refused:
        for _ in range(0, 5000, size):
            splitter.feed(b'{"a":"'[:size] if most == 0 else b"x" * size)
            assert splitter.next_frame(100) is None
            most = max(most, splitter.held)

    assert refused.value.code == "frame_too_large"
    assert most <= 100


@pytest.mark.parametrize("kind", SPLITTERS)
def test_the_bound_is_that_of_the_moment(kind: type[Splitter]) -> None:
    """It rises with the welcome, also for frames that arrived in the same read as the hello."""
    splitter, long = kind(), b'{"a":"' + b"x" * 500 + b'"}'
    splitter.feed(joined(kind, [b"{}", long]))

    assert splitter.next_frame(100) == b"{}"
    assert splitter.next_frame(1000) == long


def test_an_unfinished_frame_is_known() -> None:
    """Nothing, or a whole frame, is not unfinished; half a one is."""
    for splitter, end in ((LineSplitter(), b"\n"), (ValueSplitter(), b"}")):
        for chunk, unfinished in ((b'{"a":1', True), (b"}" if end == b"\n" else b"", True), (end, False)):
            splitter.feed(chunk)
            while splitter.next_frame(100):
                pass
            assert splitter.unfinished is unfinished


def test_depth_is_bounded() -> None:
    """An object as deep as allowed passes; one deeper is refused where it gets too deep."""
    assert split(ValueSplitter(), b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH, lambda: 7) != []
    splitter = ValueSplitter()
    splitter.feed(b'{"a":' * (MAX_DEPTH + 1))

    with pytest.raises(BadFrameError) as refused:
        splitter.next_frame(10_000)

    assert refused.value.code == "malformed"


HOSTILE = {
    "brackets": b'{"a":' + b"[" * 1_000_000,
    "pairs": b'{"a":[' + b"[]," * 333_000,
    "backslashes": b'{"a":"' + b"\\" * 1_000_000,
    "an endless string": b'{"a":"' + b"x" * 1_000_000,
    "quotes": b'{"a":[' + b'"",' * 333_000,
    "spaces": b" " * 1_000_000,
    "newlines": b"\n" * 1_000_000,
}


@pytest.mark.parametrize("kind", SPLITTERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_megabyte_is_split_in_linear_time(kind: type[Splitter], name: str) -> None:
    """Reads of 64 KiB and of 1 KiB cost about the same; the aim of 0.1 s has room for a busy machine."""
    times = []
    for size in (1024, 65536):
        splitter, began = kind(), time.process_time()
        try:
            split(splitter, HOSTILE[name], lambda size=size: size, limit=2_000_000)
        except BadFrameError:
            assert name == "brackets"
        times.append(time.process_time() - began)

    assert max(times) < 0.5
