"""The progress of a job never goes back within an attempt, in whatever order its frames arrive."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from persistence.schema.ids import CrawlerJobId
from tasks.contract.frames import Frame
from tasks.jobs.progress import MAX_COUNTS, MAX_SNAPSHOTS, advance, with_discovery

BEGIN = datetime(2026, 5, 4, 3, 0, tzinfo=UTC)
NOW = BEGIN + timedelta(hours=1)
FRAME: TypeAdapter[Any] = TypeAdapter(Frame)
A, B = CrawlerJobId("A"), CrawlerJobId("B")


def at(second: float) -> str:
    """A time by the crawler's clock."""
    return (BEGIN + timedelta(seconds=second)).isoformat()


def a_frame(kind: str, second: float = 0, **data: Any) -> Any:
    """A frame about an attempt."""
    return FRAME.validate_python({"type": kind, "timestamp": at(second), "jobId": "A", "data": data})


def page(number: int, second: float | None = None, total: int | None = 10, **data: Any) -> Any:
    """A page of issues was processed."""
    counts = {"stage": "fetching", "entityType": "issue", "processed": number, "currentPage": number}
    state = {"resumeState": {"currentPage": number}}
    return a_frame(
        "job_progress", number if second is None else second, **counts, **state, total=total, **data
    )


def progress_after(*frames: Any, before: Any = None, attempt: CrawlerJobId = A) -> dict[str, Any]:
    """The progress after these frames."""
    progress = advance(stored(before), attempt, frames, NOW).progress
    assert progress is not None
    return json.loads(progress.json_())


def stored(progress: Any) -> str | None:
    """As it is stored in the job."""
    return None if progress is None else json.dumps(progress)


def test_the_progress_of_a_whole_attempt_is_recorded() -> None:
    """It has completion, counts, each milestone once, times and history."""
    progress = progress_after(
        a_frame("job_started", 0),
        page(3, 30),
        page(6, 60, itemCounts={"note": 4}),
        page(10, 100),
        a_frame("job_completed", 110, finalCounts={"issue": 10, "label": 2}),
    )

    assert (progress["crawlerJobId"], progress["completion"]) == ("A", 1.0)
    assert progress["counts"] == {"issue": 10, "note": 4, "label": 2}
    assert progress["totals"] == {"issue": 10}
    assert {name: _second(time) for name, time in progress["milestones"].items()} == {
        "started": 0, "25%": 30, "50%": 60, "75%": 100, "90%": 100, "completed": 110,
    }  # fmt: skip
    assert (progress["secondsElapsed"], progress["secondsRemaining"]) == (110.0, 0.0)
    assert _second(progress["updatedAt"]) == 110
    assert [(s["completion"], s["processed"]) for s in progress["history"]] == [
        (0.0, 0), (0.3, 3), (0.6, 10), (1.0, 14), (1.0, 16),
    ]  # fmt: skip
    assert progress["stage"] == "fetching"


def _second(time: str) -> float:
    return (datetime.fromisoformat(time) - BEGIN).total_seconds()


def test_no_frames_record_no_progress() -> None:
    """A batch without frames about the attempt writes nothing."""
    assert advance(None, A, [], NOW).progress is None


@given(
    order=st.permutations(range(6)),
    cuts=st.sets(st.integers(1, 5)),
    again=st.lists(st.integers(0, 5), max_size=4),
)
def test_order_repetition_and_batching_do_not_change_the_progress(
    order: list[int], cuts: set[int], again: list[int]
) -> None:
    """No value falls at any step, and the result is the same as in the right order."""
    frames = [a_frame("job_started", 0), *(page(n, 10 * n, message=f"page {n}") for n in (1, 3, 4, 7, 9))]
    right = progress_after(*frames)
    sent = [frames[n] for n in [*order, *again]]
    bounds = [0, *sorted(cuts), len(sent)]

    progress: dict[str, Any] | None = None
    for first, last in pairwise(bounds):
        before, progress = progress, progress_after(*sent[first:last], before=progress)
        if before:
            assert progress["completion"] >= before["completion"]
            assert before["counts"].get("issue", 0) <= progress["counts"].get("issue", 0)
            assert before["milestones"].items() <= progress["milestones"].items()
            assert progress["updatedAt"] >= before["updatedAt"]

    assert progress is not None
    same = (
        "completion",
        "counts",
        "totals",
        "message",
        "currentPage",
        "startedAt",
        "updatedAt",
        "secondsElapsed",
    )
    assert {name: progress[name] for name in same} == {name: right[name] for name in same}
    assert progress["milestones"].keys() == right["milestones"].keys()
    assert progress["best"] == right["best"]


def test_a_late_frame_does_not_overwrite_a_newer_one() -> None:
    """Its counts apply; its message, page and resume state do not."""
    before = progress_after(page(5, 50, message="newer"))

    late = advance(stored(before), A, [page(4, 40, message="older", itemCounts={"note": 9})], NOW)

    assert late.progress is not None
    assert (late.progress.message, late.progress.current_page, late.resume_state) == ("newer", 5, None)
    assert late.progress.counts == {"issue": 5, "note": 9}


def test_the_newest_resume_state_wins_within_a_batch() -> None:
    """The order of the array does not matter."""
    assert advance(None, A, [page(5, 50), page(4, 40)], NOW).resume_state == {"currentPage": 5}


def test_a_resume_state_is_kept_when_newer_frames_have_none() -> None:
    """Only a newer resume state replaces it."""
    before = progress_after(a_frame("job_progress", 60, stage="fetching", entityType="issue", processed=1))

    assert advance(stored(before), A, [page(4, 40)], NOW).resume_state == {"currentPage": 4}


def test_a_fast_clock_does_not_suppress_later_frames() -> None:
    """A time later than the database's is taken as the database's."""
    ahead = progress_after(page(1, second=86_400, message="from tomorrow"))
    assert datetime.fromisoformat(ahead["updatedAt"]) == NOW

    progress = advance(
        stored(ahead), A, [page(2, second=86_500, message="set right")], NOW + timedelta(seconds=5)
    ).progress

    assert progress is not None
    assert progress.message == "set right"


def test_times_without_a_zone_are_utc() -> None:
    """They can be compared with times that have a zone."""
    naive = FRAME.validate_python(
        {"type": "job_progress", "timestamp": "2026-05-04T03:00:09", "jobId": "A",
         "data": {"stage": "fetching", "entityType": "issue", "processed": 1}}
    )  # fmt: skip

    assert _second(progress_after(page(1, 5), naive)["updatedAt"]) == 9


def test_several_kinds_of_entities_share_the_completion() -> None:
    """It is all that was processed over all totals, and does not fall when another kind appears."""
    issues = page(5, 10, total=10)
    merge_requests = a_frame(
        "job_progress", 20, stage="fetching", entityType="merge_request", processed=10, total=30
    )

    assert progress_after(issues, merge_requests)["completion"] == 0.5
    assert progress_after(merge_requests, issues)["completion"] == pytest.approx(15 / 40)


def test_a_new_attempt_starts_anew_and_keeps_the_history() -> None:
    """It also keeps the best that was reached."""
    before = progress_after(
        a_frame("job_started", 0), page(6, 60), a_frame("job_failed", 70, error="x", isRecoverable=True)
    )

    after = progress_after(a_frame("job_started", 80), before=before, attempt=B)

    assert (after["completion"], after["counts"], list(after["milestones"])) == (0.0, {}, ["started"])
    assert "message" not in after
    assert [s["attempt"] for s in after["history"]] == ["A", "A", "A", "B"]
    assert after["best"] == {"completion": 0.6, "processed": 6, "page": 6}
    assert before["milestones"].keys() == {"started", "25%", "50%", "failed"}


@pytest.mark.parametrize("frame", [page(6, 10), page(1, 10, itemCounts={"note": 9})])
def test_progress_is_best_only_beyond_every_earlier_attempt(frame: Any) -> None:
    """It may exceed them by completion, by the counts, or by the page."""
    before = progress_after(page(5, 50))

    assert advance(stored(before), B, [frame], NOW).is_best
    assert not advance(stored(before), B, [page(5, 10)], NOW).is_best
    assert not advance(stored(before), B, [a_frame("job_started", 10)], NOW).is_best


@pytest.mark.parametrize(
    ("frames", "seconds"),
    [
        ([page(5, 50, estimatedTimeRemaining=7)], 7.0),
        ([page(5, 50, processingRate=0.5)], 10.0),
        ([page(1, 10), page(5, 50)], 40.0),
        ([page(5, 50, total=None)], None),
        ([page(5, 50, processingRate=0)], None),
        ([page(5, 50, processingRate=1e-15)], 1e9),
    ],
    ids=["its estimate", "its rate", "its pace", "no total", "a rate of nothing", "beyond all bounds"],
)
def test_the_remaining_time_is_estimated(frames: list[Any], seconds: float | None) -> None:
    """By the crawler's estimate, else by its rate or the pace so far, else not at all."""
    assert progress_after(*frames).get("secondsRemaining") == seconds


def test_growing_fields_are_bounded() -> None:
    """Names of counts and snapshots have a maximum number, over all attempts."""
    progress: dict[str, Any] | None = None
    for attempt in range(30):
        progress = progress_after(
            *(page(n, n) for n in range(11)),
            a_frame("job_progress", 11, stage="fetching", entityType=f"kind {attempt}", processed=1,
                 itemCounts={f"{attempt} {n}": 1 for n in range(400)}),
            before=progress,
            attempt=CrawlerJobId(f"attempt {attempt // 2}"),
        )  # fmt: skip

    assert progress is not None
    assert len(progress["counts"]) == MAX_COUNTS
    assert len(progress["history"]) == MAX_SNAPSHOTS


@pytest.mark.parametrize(
    "before",
    [[], "text", 7, {}, {"crawlerJobId": "A", "counts": 5}, {"crawlerJobId": "A", "history": [1]},
     {"crawlerJobId": "A", "completion": "NaN"}, {"crawlerJobId": ["A"]}],
)  # fmt: skip
def test_foreign_progress_values_are_tolerated(before: Any) -> None:
    """The attempt starts at zero."""
    assert progress_after(page(5), before=before)["completion"] == 0.5


def test_foreign_fields_are_kept_within_an_attempt() -> None:
    """Keys that others added stay until the next attempt."""
    assert progress_after(page(5), before=progress_after(page(4)) | {"pinned": True})["pinned"] is True


@pytest.mark.parametrize(
    "hostile",
    [
        {"discovery": {"groups": "many"}},
        {"discovery": {"frames": None}},
        {"discovery": {"summary": [1]}},
        {"discovery": []},
        {"estimatedTimeRemaining": "NaN"},
        {"processingRate": "inf"},
        {"secondsElapsed": "-inf"},
        {"totals": {"a": -(10**400), "b": 10**400 + 1}, "counts": {"b": 1}},
        {"best": {"completion": 10**400}},
        {"startedAt": 10**400},
        {"own": reduce(lambda inner, _: [inner], range(300), [])},
    ],
)
def test_unusable_progress_is_replaced(hostile: dict[str, Any]) -> None:
    """Nothing raises, and the new progress can be stored as JSON."""
    before = progress_after(page(2)) | hostile

    found = with_discovery(stored(before), A, Counter(jobs=2), {"totalGroups": 1})

    assert progress_after(page(5), before=before) == progress_after(page(5))
    assert found.discovery is not None
    assert (found.discovery.jobs, found.discovery.summary) == (2, {"totalGroups": 1})
    json.dumps(json.loads(found.json_()), allow_nan=False)


def test_secrets_are_redacted() -> None:
    """They are redacted in messages and in the names of counts."""
    progress = progress_after(
        page(1, message="token=glpat-abcdefghij0123456789", itemCounts={"glpat-abcdefghij0123456789": 1})
    )

    assert "glpat-abcdefghij0123456789" not in str(progress)
