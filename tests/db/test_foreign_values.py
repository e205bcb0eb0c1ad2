"""Any value that the web app may write into its tables can be read, and stops no task."""

from typing import Any

import pytest

from persistence.db.foreign_values import EARLIEST, LATEST, UNREADABLE, read_json
from persistence.reports.job_progress import JobProgress, read_jobs_progress
from support.command import Run
from support.worlds.world import World

DEEP = "[" * 2_000 + "]" * 2_000
TOO_DEEP_TO_SHOW = "[" * 400 + "]" * 400
LONG = "9" * 5_000

OF_JOBS = {
    "progress that is deep": ("progress", DEEP),
    "progress that is too deep to be shown": ("progress", TOO_DEEP_TO_SHOW),
    "progress with a long integer": ("progress", f'{{"a": {LONG}}}'),
    "progress with a number beyond doubles": ("progress", f'{{"a": {LONG[:400]}.5}}'),
    "seconds of 4,000 digits": ("progress", f'{{"secondsRemaining": {LONG[:4000]}}}'),
    "seconds beyond all times": ("progress", '{"secondsRemaining": 1e300}'),
    "seconds before all times": ("progress", '{"secondsRemaining": -1e300}'),
    "a completion beyond all": ("progress", '{"completion": 1e5000, "counts": {"a": 1e5000}}'),
    "a resume_state that is deep": ("resume_state", DEEP),
    "a resume_state with a long integer": ("resume_state", f'{{"currentPage": {LONG}}}'),
    "a start in all eternity": ("started_at", "infinity"),
    "a start before Christ": ("started_at", "0044-03-15 BC"),
    "an end in the year 20,000": ("finished_at", "20000-01-01"),
    "a creation before all times": ("created_at", "-infinity"),
    "an update in all eternity": ("updatedAt", "infinity"),
    "a status of its own": ("status", "archived"),
    "a URL that is none": ("gitlabGraphQLUrl", "://["),
    "a provider of its own": ("provider", "x" * 5_000),
}

OF_ACCOUNTS = {
    "a token that never expires": ("access_token_expires_at", "infinity"),
    "a token that expired before all times": ("access_token_expires_at", "-infinity"),
    "a refresh token before Christ": ("refresh_token_expires_at", "0044-03-15 BC"),
    "a refresh token of a megabyte": ("refresh_token", "x" * 1_000_000),
    "an account's provider of its own": ("provider_id", "://["),
}

PROGRESS: dict[str, Any] = {"stage": "fetching", "entityType": "issue", "processed": 1, "total": 4}


def write(world: World, table: str, id_: str, column: str, value: str) -> None:
    """Write a value as the web app does."""
    kind = world.scalar(
        "SELECT data_type FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name = :t AND column_name = :c",
        t=table,
        c=column,
    )
    world.rows(f'UPDATE {table} SET "{column}" = CAST(:v AS {kind}) WHERE id = :id', v=value, id=id_)


def job_of(world: World, order: str) -> str:
    """The job of an order."""
    return str(
        world.scalar("SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :o", o=order)
    )


def progress_of(job: str) -> JobProgress:
    """The progress of a job as reports read it."""
    (found,) = read_jobs_progress([job])
    return found


@pytest.mark.parametrize("kind", OF_JOBS)
def test_an_absurd_value_of_a_job_loses_no_frame(kind: str, world: World) -> None:
    """Frames about that job and about others are applied, and every task up to the sweep succeeds."""
    crawler, (one, two) = world.crawler_with_jobs(2)
    bad, good = job_of(world, one), job_of(world, two)
    write(world, "job", bad, *OF_JOBS[kind])

    world.sends(*(crawler.frame("job_progress", order, **PROGRESS) for order in (one, two)))
    assert [progress_of(job).progress["counts"] for job in (bad, good)] == [{"issue": 1}] * 2

    for task in ("enqueue", "pause", "resume", "cancel", "retry"):
        write(world, "job", bad, *OF_JOBS[kind])
        world.deliver(f"jobs.{task}", job_ids=[bad, good])
    for task in ("reconcile", "take_statistics", "clean_up"):
        world.deliver(f"upkeep.{task}")
    crawler.silent_for(3600)
    world.sweep()
    assert not crawler.row().is_active
    assert world.rejections() == []


@pytest.mark.parametrize("kind", OF_JOBS)
def test_an_absurd_value_of_a_job_can_be_shown(kind: str, world: World, run: Run) -> None:
    """`crawlyard progress` shows it as text and as JSON, along with other jobs."""
    one, two = world.jobs(2)
    write(world, "job", one, *OF_JOBS[kind])

    for arguments in (["--account", "acc"], ["--subtree", one]):
        output = run("progress", *arguments)
        assert (output.code, output.err) == (0, "")
        assert run("progress", *arguments, "--json").json
    assert {job["id"] for job in run("progress", "--account", "acc", "--json").json} == {one, two}


@pytest.mark.parametrize("kind", OF_ACCOUNTS)
def test_an_absurd_value_of_an_account_does_not_affect_others(kind: str, world: World) -> None:
    """The other account's jobs are assigned, and no task fails."""
    world.account("other")
    write(world, "account", "acc", *OF_ACCOUNTS[kind])
    world.jobs(1)
    (wanted,) = world.jobs(1, account_id="other")
    crawler = world.crawler()

    for task in ("refresh", "renewed"):
        world.deliver(f"credentials.{task}", account_id="acc")
    world.assign()
    world.deliver("upkeep.reconcile")

    assert wanted in {job_of(world, order) for order in crawler.orders()}
    assert world.rejections() == []


def test_times_outside_of_pythons_range_are_clamped(world: World) -> None:
    """Such times still compare as earlier or later than all others."""
    (job,) = world.jobs(1)
    write(world, "job", job, "started_at", "0044-03-15 BC")
    write(world, "job", job, "finished_at", "infinity")

    found = progress_of(job)

    assert (found.started_at, found.finished_at) == (EARLIEST, LATEST)


def test_unreadable_json_has_a_placeholder() -> None:
    """JSON that is too deep, or has too long numbers, becomes a placeholder; large JSON is read."""
    nested, flat = "[" * 101 + "]" * 101, [[]] * 1_000

    for text in (DEEP, TOO_DEEP_TO_SHOW, LONG, f"[{LONG[:400]}.5]", nested):
        assert read_json(text.encode()) == UNREADABLE
    assert read_json(str(flat).encode()) == flat
    assert read_json(nested[1:-1].encode()) != UNREADABLE
