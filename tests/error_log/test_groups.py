"""Similar errors form a group, described by its newest error; errors are read page by page."""

from datetime import timedelta

import pytest
from ulid import ULID

from persistence.error_log.fingerprint import fingerprint
from persistence.error_log.groups import read_group, read_groups
from persistence.error_log.queries import read_errors
from persistence.exceptions import IllegalRequestError
from persistence.schema.ids import JobId
from support.worlds.world import World

DAY = timedelta(days=1)


def log(world: World, *job_ids: str, message: str = "it broke", kind: str = "TypeError") -> str:
    """Log one error of each of these jobs; their fingerprint."""
    errors = [{"job_id": job_id, "error_type": kind, "error_message": message} for job_id in job_ids]
    world.deliver("failures.log", errors=errors)
    return fingerprint(kind, message)


def age(world: World, group: str, *, hours: float) -> None:
    """Make all errors of a group older by this much."""
    world.rows(
        "UPDATE job_error_log SET timestamp = timestamp - make_interval(secs => :s) WHERE fingerprint = :g",
        s=hours * 3600,
        g=group,
    )


def test_similar_errors_form_one_group(world: World) -> None:
    """A group counts its errors, jobs and accounts, and shows its newest error."""
    world.account("other")
    one, two = world.jobs(2)
    (others,) = world.jobs(1, account_id="other")
    group = log(world, one, one, two, others, message="issue 7 broke")
    newest = log(world, two, message="issue 8 broke")
    alone = log(world, one, message="it fell")

    assert newest == group != alone
    broke, fell = read_groups(limit=10)
    assert (broke.fingerprint, broke.errors, broke.unresolved, broke.jobs, broke.accounts) == (
        group,
        5,
        5,
        3,
        2,
    )
    assert (broke.error_type, broke.error_message) == ("TypeError", "issue 8 broke")
    assert (broke.first_seen, broke.last_seen) == (
        world.scalar("SELECT min(timestamp) FROM job_error_log WHERE fingerprint = :g", g=group),
        world.scalar("SELECT max(timestamp) FROM job_error_log WHERE fingerprint = :g", g=group),
    )
    assert (fell.fingerprint, fell.errors, fell.jobs, fell.accounts) == (alone, 1, 1, 1)


def test_only_errors_within_the_window_count(world: World) -> None:
    """A group without an error in the window is not listed, and older errors of other groups do not count."""
    (job_id,) = world.jobs(1)
    old, both = log(world, job_id, message="old"), log(world, job_id, message="now and then")
    for group in (old, both):
        age(world, group, hours=25)
    log(world, job_id, message="now and then")

    assert [(g.fingerprint, g.errors) for g in read_groups(since=DAY, limit=10)] == [(both, 1)]
    assert [(g.fingerprint, g.errors) for g in read_groups(limit=10)] == [(both, 2), (old, 1)]
    assert read_group(both, limit=10).group.errors == 2


def test_groups_are_sorted_by_count_or_by_last_seen(world: World) -> None:
    """The limit keeps the first groups."""
    (job_id,) = world.jobs(1)
    many = log(world, job_id, job_id, job_id, message="many")
    few = log(world, job_id, message="few")

    assert [g.fingerprint for g in read_groups(limit=10)] == [many, few]
    assert [g.fingerprint for g in read_groups(by="last_seen", limit=10)] == [few, many]
    assert [g.fingerprint for g in read_groups(by="last_seen", limit=1)] == [few]
    assert [g.fingerprint for g in read_groups(limit=1)] == [many]


def test_resolved_groups_are_left_out_on_request(world: World) -> None:
    """One with a single error that is not is shown, with how many are not."""
    (job_id,) = world.jobs(1)
    done = log(world, job_id, message="done")
    half = log(world, job_id, message="half")
    for group in (done, half):
        world.deliver("failures.resolve", error_group=group, resolution="deployed 1.2")
    log(world, job_id, message="half")

    assert [(g.fingerprint, g.errors, g.unresolved) for g in read_groups(unresolved=True, limit=10)] == [
        (half, 2, 1)
    ]
    assert {(g.fingerprint, g.unresolved) for g in read_groups(limit=10)} == {(done, 0), (half, 1)}


def test_errors_from_before_fingerprints_are_in_no_group(world: World) -> None:
    """They are listed all the same."""
    (job_id,) = world.jobs(1)
    log(world, job_id)
    world.rows("UPDATE job_error_log SET fingerprint = NULL")

    assert read_groups(limit=10) == []
    assert [error.fingerprint for error in read_errors(limit=10)] == [None]


def test_one_group_is_shown_with_its_newest_errors(world: World) -> None:
    """The newest first, up to the limit, and none of another group."""
    one, two = world.jobs(2)
    group = log(world, one, two, message="issue 1 broke")
    log(world, one, message="issue 2 broke")
    log(world, one, message="it fell")

    shown = read_group(group, limit=2)

    assert shown.group == read_groups(limit=1)[0]
    assert [(e.job_id, e.error_message) for e in shown.newest] == [
        (one, "issue 2 broke"),
        (two, "issue 1 broke"),
    ]


@pytest.mark.parametrize("group", ["0" * 16, "", "x'; --"])
def test_an_unknown_group_is_reported(world: World, group: str) -> None:
    """Whatever its name is."""
    log(world, *world.jobs(1))

    with pytest.raises(IllegalRequestError, match="there is no group of errors"):
        read_group(group, limit=1)


def test_a_jobs_errors_are_read_page_by_page_the_newest_first(world: World) -> None:
    """Each error once, also if several have the same time, and none of another job."""
    one, two = world.jobs(2)
    for number in range(7):
        log(world, one, two, message=f"error {number}")
    world.rows(
        "UPDATE job_error_log SET timestamp = date_trunc('hour', timestamp) WHERE error_message < 'error 4'"
    )

    pages = []
    before = None
    while page := read_errors(job_id=JobId(one), before=before, limit=3):
        pages.append(page)
        before = page[-1].id

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [e.error_message for page in pages for e in page] == [f"error {n}" for n in (6, 5, 4, 3, 2, 1, 0)]
    assert {(e.job_id, e.account_id) for page in pages for e in page} == {(one, "acc")}


def test_errors_are_listed_within_a_window(world: World) -> None:
    """Errors of all jobs."""
    one, two = world.jobs(2)
    age(world, log(world, one, message="old"), hours=25)
    log(world, one, two, message="new")

    assert [(e.job_id, e.error_message) for e in read_errors(since=DAY, limit=10)] == [
        (two, "new"),
        (one, "new"),
    ]
    assert len(read_errors(limit=10)) == 3


def test_a_page_after_a_deleted_error_is_refused(world: World) -> None:
    """An empty page would look like the end of the list."""
    log(world, *world.jobs(1))

    with pytest.raises(IllegalRequestError, match="there is no error"):
        read_errors(before=str(ULID()), limit=1)
