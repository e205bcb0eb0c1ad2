"""Statistics are counted exactly and at one moment, periodically, and shown with their age."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from console.main import crawlyard
from console.output.exit_codes import ended
from console.views.statistics import render, render_account
from persistence.db.engine import engine
from persistence.reports.statistics import read_account_statistics, read_statistics
from persistence.reports.stored_counts import CountedStatistics, Throughput, read_counted_statistics
from support.worlds.ages import somebody
from support.worlds.world import World

EVERYTHING = """
    INSERT INTO account (id) VALUES ('other'), ('idle'), ('new');
    INSERT INTO job (id, "accountId", command, full_path, status)
    SELECT status, 'acc', 'issues', status, status
      FROM unnest(ARRAY['queued', 'running', 'paused', 'failed', 'finished', 'cancelled', 'credential_expired',
                        'waiting_credential_renewal', 'credential_renewed', 'archived']) status;
    INSERT INTO job (id, "accountId", command, full_path) VALUES ('other', 'other', 'project', 'other');
    INSERT INTO job (id, "accountId", command, full_path, status)
    VALUES ('idle', 'idle', 'project', 'idle', 'finished');
    INSERT INTO job (id, "accountId", status) VALUES ('scope', 'acc', 'finished');

    INSERT INTO job_queue (id, web_app_job_id, account_id, status, ready, held, scheduled_at, last_attempt_at,
                           settled_at, error)
    SELECT id, id, account_id, status, ready, held, now() - due, now() - attempted, now() - settled, error
      FROM (VALUES ('queued', 'acc', 'pending', true, false, interval '1 hour', interval '9 hours', NULL, NULL),
                   ('other', 'other', 'pending', true, false, '2 hours', NULL, NULL, NULL),
                   ('credential_renewed', 'acc', 'pending', false, false, '-1 hour', '3 hours', NULL, 'it broke'),
                   ('paused', 'acc', 'pending', true, true, '4 hours', NULL, NULL, NULL),
                   ('running', 'acc', 'processing', true, false, '9 hours', '5 hours', NULL, NULL),
                   ('finished', 'acc', 'completed', true, false, '9 hours', '9 hours', interval '6 minutes', NULL),
                   ('idle', 'idle', 'completed', true, false, '9 hours', '9 hours', '4 minutes', NULL),
                   ('failed', 'acc', 'failed', true, false, '9 hours', '9 hours', '4 minutes', 'it broke'),
                   ('cancelled', 'acc', 'failed', true, false, '9 hours', '9 hours', '4 minutes', 'cancelled'))
           AS entry(id, account_id, status, ready, held, due, attempted, settled, error);
    INSERT INTO deferred_job (id, account_id, graphql_url, command, full_path, priority, spawned_from, deferred_at)
    VALUES ('1', 'other', '', 'issues', '1', 1, 'x', now() - interval '7 hours'),
           ('2', 'other', '', 'issues', '2', 1, 'x', now()), ('3', 'new', '', 'issues', '3', 1, 'x', now());
    INSERT INTO job_assignment_mapping
           (id, web_app_job_id, crawler_job_id, account_id, status, assigned_at, completed_at)
    VALUES ('1', 'running', '1', 'acc', 'running', now() - interval '4 minutes', NULL),
           ('2', 'idle', '2', 'idle', 'completed', now() - interval '4 minutes', now() - interval '3 minutes'),
           ('3', 'failed', '3', 'acc', 'failed', now() - interval '1 hour', now() - interval '4 minutes'),
           ('4', 'cancelled', '4', 'acc', 'cancelled', now() - interval '1 hour', now() - interval '6 minutes');
    INSERT INTO area (full_path, gitlab_id, type)
    VALUES ('a', 'a', 'group'), ('a/b', 'b', 'project'), ('a/c', 'c', 'project');
    INSERT INTO area_authorization VALUES ('acc', 'a'), ('acc', 'a/b'), ('other', 'a');
    INSERT INTO job_error_log (id, job_id, error_type, error_message, timestamp)
    VALUES ('1', 'failed', 'Stalled', '', now()), ('2', 'other', 'CrawlFailed', '', now()),
           ('3', 'failed', 'Stalled', '', now() - interval '2 hours');
    INSERT INTO account_lane (account_id, held_at, held_reason, paused_at, paused_reason)
    VALUES ('acc', now() - interval '1 hour', 'token expired', now() - interval '2 hours', NULL)
"""
"""A job in each status, an entry in each state, and for each time one within the window and one not."""

OLDEST = {
    # state: (entries, hours since the oldest entry has been in it)
    "ready": (2, 2.0),
    "backed_off": (1, 3.0),
    "held": (1, 4.0),
    "processing": (1, 5.0),
    "completed": (2, 0.1),
    "failed": (2, 4 / 60),
    "deferred": (3, 7.0),
}


def take(world: World) -> None:
    """Deliver upkeep.take_statistics, long after the last run."""
    world.rows("UPDATE periodic_ring SET rung_at = rung_at - interval '1 hour'")
    world.deliver("upkeep.take_statistics")


def everything(world: World) -> None:
    """Insert all of them."""
    for statement in EVERYTHING.split(";\n"):
        world.rows(statement)


def counts() -> CountedStatistics | None:
    """The last counts."""
    with engine().connect() as connection:
        return read_counted_statistics(connection)


def counted() -> CountedStatistics:
    """The last counts, which exist."""
    found = counts()
    assert found is not None
    return found


@pytest.fixture
def command_output(world: World, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: exit code, output and errors."""
    del world

    def command_output(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = ended(lambda: crawlyard(list(arguments), prog_name="crawlyard", standalone_mode=False))
        return code, *capsys.readouterr()

    return command_output


def on_screen(what: Any, width: int) -> list[str]:
    """The lines of a view on a terminal of this width."""
    terminal = io.StringIO()
    Console(file=terminal, width=width, highlight=False).print(what)
    return terminal.getvalue().splitlines()


# Counting


def test_everything_is_counted_exactly(world: World) -> None:
    """Each job, entry, attempt and area is counted once, where it belongs."""
    everything(world)

    take(world)

    found = counted()
    every = "queued running paused failed finished cancelled credential_expired credential_renewed archived"
    assert found.jobs == {
        "issues": dict.fromkeys([*every.split(), "waiting_credential_renewal"], 1),
        "project": {"queued": 1, "finished": 1},
        "authorizationScope": {"finished": 1},
    }
    assert found.areas == {"group": 1, "project": 2}
    assert found.authorizations == 3
    assert found.throughput == Throughput(
        seconds=300, jobs_finished=1, jobs_failed=1, jobs_cancelled=1, attempts_begun=2, attempts_ended=2
    )
    assert {state: depth.entries for state, depth in found.queue.items()} == {
        state: entries for state, (entries, _) in OLDEST.items()
    }
    for state, (_, hours) in OLDEST.items():
        age = found.queue[state].oldest
        assert age is not None
        assert timedelta(0) <= age - timedelta(hours=hours) < timedelta(minutes=1), state


def test_accounts_are_ranked_by_open_work(world: World) -> None:
    """Accounts with the most work come first, and accounts without work are not listed."""
    everything(world)

    take(world)

    found = counted()
    assert [(account.account_id, account.entries) for account in found.busiest_accounts] == [
        ("acc", {"ready": 1, "backed_off": 1, "held": 1, "processing": 1, "completed": 1, "failed": 2}),
        ("other", {"ready": 1, "deferred": 2}),
        ("new", {"deferred": 1}),
    ]
    assert (found.accounts, found.accounts_with_work) == (4, 3)


def test_at_most_twenty_accounts_are_listed(world: World) -> None:
    """However many accounts there are, the stored row stays small."""
    world.rows(
        "INSERT INTO deferred_job (id, account_id, graphql_url, command, full_path, priority, spawned_from)"
        " SELECT n, CASE WHEN n < 30 THEN n ELSE 29 END, '', 'issues', n, 1, 'x' FROM generate_series(1, 30) n"
    )

    take(world)

    found = counted()
    assert [account.account_id for account in found.busiest_accounts][:3] == ["29", "1", "10"]
    assert (len(found.busiest_accounts), found.accounts_with_work) == (20, 29)


def test_an_empty_database_is_counted_as_zero(world: World) -> None:
    """An empty database is counted too, and replaces the earlier counts."""
    everything(world)
    take(world)
    for table in ("job", "deferred_job", "area_authorization", "area"):
        world.rows(f"DELETE FROM {table}")

    take(world)

    found = counted()
    assert (found.jobs, found.queue, found.areas, found.busiest_accounts) == ({}, {}, {}, [])
    assert (found.accounts, found.authorizations, found.throughput.jobs_finished) == (0, 0, 0)
    assert world.scalar("SELECT count(DISTINCT taken_at) FROM statistic") == 1


@pytest.fixture
def stopped_at_areas(world: World) -> Any:
    """Counting areas waits for an advisory lock, in the middle of the count."""
    world.rows("ALTER TABLE area RENAME TO area_of_old")
    world.rows(
        "CREATE VIEW area AS SELECT area_of_old.* FROM (SELECT pg_advisory_xact_lock(7) OFFSET 0) stop, area_of_old"
    )
    yield
    world.rows("DROP VIEW area")
    world.rows("ALTER TABLE area_of_old RENAME TO area")


@pytest.mark.usefixtures("stopped_at_areas")
def test_a_job_that_changes_during_the_count_is_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Job, entry, attempt and account are as of the moment the count began."""
    monkeypatch.setenv("CRAWLYARD_LOCK_TIMEOUT", "20")
    world.reload_settings()
    crawler, (order,) = world.crawler_with_jobs()
    world.jobs(1)

    with somebody("SELECT pg_advisory_xact_lock(7)"):
        counting = world.in_thread(lambda: take(world))
        world.wait_for_lock_waiter()
        crawler.sends("job_completed", order, success=True)
        world.assign()
        world.jobs(1)
    counting.join()

    found = counted()
    assert world.scalar("SELECT count(*) FROM job WHERE status = 'finished'") == 1
    assert found.jobs == {"project": {"queued": 2}}
    assert {state: depth.entries for state, depth in found.queue.items()} == {"processing": 1, "ready": 1}
    assert [account.entries for account in found.busiest_accounts] == [{"processing": 1, "ready": 1}]
    assert (found.throughput.jobs_finished, found.throughput.attempts_begun) == (0, 1)
    assert found.throughput.attempts_ended == 0
    assert found.taken_at < world.scalar("SELECT finished_at FROM job WHERE status = 'finished'")

    take(world)
    assert counted().jobs == {"project": {"finished": 1, "queued": 2}}


# When the task runs


def test_beat_publishes_the_count_at_its_interval() -> None:
    """Every minute by default."""
    import celeryconfig  # noqa: PLC0415 - it reads the settings

    assert celeryconfig.beat_schedule["statistics"] == {
        "task": "upkeep.take_statistics",
        "schedule": timedelta(seconds=60),
    }


def test_a_second_count_within_half_an_interval_is_skipped(world: World) -> None:
    """Half an interval is 30 s of 60."""
    take(world)
    before = counted().taken_at

    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() - interval '29 seconds'")
    world.deliver("upkeep.take_statistics")
    assert counted().taken_at == before

    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() - interval '31 seconds'")
    world.deliver("upkeep.take_statistics")
    assert counted().taken_at > before


def test_counts_never_run_concurrently(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second gives up soon and keeps the earlier counts; the next message counts again."""
    monkeypatch.setenv("CRAWLYARD_DATABASE_WAIT", "20")
    world.reload_settings()
    take(world)
    before = counted().taken_at

    with somebody("UPDATE periodic_ring SET rung_at = rung_at - interval '1 hour'"):
        began = world.now()
        world.deliver("upkeep.take_statistics")
        assert world.now() - began < timedelta(seconds=5)
        assert counted().taken_at == before
    assert (world.rejections(), world.published.messages) == ([], [])

    take(world)
    assert counted().taken_at > before


@pytest.mark.usefixtures("stopped_at_areas")
def test_a_count_that_takes_too_long_is_abandoned(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after half an interval, is not retried at once, and keeps the earlier counts."""
    take(world)
    before = counted().taken_at
    monkeypatch.setenv("CRAWLYARD_STATISTICS_INTERVAL", "0.2")
    monkeypatch.setenv("CRAWLYARD_LOCK_TIMEOUT", "20")
    monkeypatch.setenv("CRAWLYARD_DATABASE_WAIT", "20")
    world.reload_settings()

    with somebody("SELECT pg_advisory_xact_lock(7)"):
        began = world.now()
        take(world)
        assert world.now() - began < timedelta(seconds=5)
    assert counted().taken_at == before
    assert (world.rejections(), world.published.messages) == ([], [])

    world.deliver("upkeep.take_statistics")
    assert counted().taken_at > before, "a run that gave up does not block the next one"


# Reports


def test_the_report_combines_stored_counts_and_current_values(
    world: World, command_output: Callable[..., tuple[int, str, str]]
) -> None:
    """Stored counts with their age, and current connections, attempts and failures."""
    everything(world)
    take(world)
    world.rows("UPDATE statistic SET taken_at = taken_at - interval '100 seconds'")
    world.crawler(capacity=3)
    world.jobs(1)

    code, out, _ = command_output("stats", "--json")

    shown = json.loads(out)
    assert code == 0
    assert 100 <= shown["counts"]["age"] < 160
    assert shown["counts"]["jobs"]["project"] == {"queued": 1, "finished": 1}
    assert shown["counts"]["queue"]["held"]["entries"] == 1
    assert shown["connections"]["seats"] == 3
    assert shown["assignments"] == {"assigned": 0, "running": 1}
    assert shown["failures_last_hour"] == {"CrawlFailed": 1, "Stalled": 1}
    assert shown["held_accounts"] == {"paused": 1, "token expired": 1}
    assert shown["rejected_last_hour"] == {}


def test_a_missing_count_is_reported_with_advice(
    world: World, command_output: Callable[..., tuple[int, str, str]]
) -> None:
    """What can be counted now is shown, and the exit code is 1."""
    world.crawler(capacity=3)

    code, out, _ = command_output("stats")
    assert code == 1
    assert "Nothing has been counted yet. Beat publishes the counting task every 1 min" in out
    assert "crawlyard health" in out
    assert "Connections" in out

    code, out, _ = command_output("stats", "--json")
    assert (code, json.loads(out)["counts"], json.loads(out)["connections"]["seats"]) == (1, None, 3)


def test_counts_of_another_version_are_ignored(world: World) -> None:
    """Counts of a version that counted less are not shown."""
    take(world)
    world.rows("DELETE FROM statistic WHERE name = 'areas'")
    assert counts() is None


@pytest.mark.parametrize(("age", "stale"), [(170, False), (190, True)])
def test_outdated_counts_are_marked(
    world: World, command_output: Callable[..., tuple[int, str, str]], age: int, *, stale: bool
) -> None:
    """Counts are too old after three intervals."""
    take(world)
    world.rows("UPDATE statistic SET taken_at = taken_at - make_interval(secs => :age)", age=age)

    _, out, _ = command_output("stats")

    assert ("Counted 2 min 5" in out, "Counted 3 min" in out) == (not stale, stale)
    assert ("These counts are outdated" in out) == stale


def test_a_single_account_is_counted_on_demand(
    world: World, command_output: Callable[..., tuple[int, str, str]]
) -> None:
    """Only its own figures, whether or not there are stored counts."""
    everything(world)

    code, out, _ = command_output("stats", "--account", "other", "--json")

    account = json.loads(out)
    assert code == 0
    assert account["jobs"] == {"project": {"queued": 1}}
    assert {state: depth["entries"] for state, depth in account["queue"].items()} == {
        "ready": 1,
        "deferred": 2,
    }
    assert 7200 <= account["queue"]["ready"]["oldest"] < 7260
    assert (account["authorizations"], account["failures_last_hour"]) == (1, {"CrawlFailed": 1})
    assert (account["assignments"], account["held_at"]) == ({"assigned": 0, "running": 0}, None)
    assert counts() is None

    account_of_ours = read_account_statistics("acc")
    assert account_of_ours.assignments == {"assigned": 0, "running": 1}
    assert (account_of_ours.held_reason, account_of_ours.paused_reason) == ("token expired", None)
    assert account_of_ours.paused_at is not None


def test_an_unknown_account_is_reported_in_one_line(
    command_output: Callable[..., tuple[int, str, str]],
) -> None:
    """And no figures are shown."""
    assert command_output("stats", "--account", "nobody") == (2, "", "crawlyard: there is no such account\n")


@pytest.mark.parametrize("width", [80, 120])
def test_figures_are_not_cut_on_narrow_terminals(world: World, width: int) -> None:
    """Long names are cut, figures are not, and no line wraps."""
    everything(world)
    world.rows("UPDATE job SET command = :long WHERE id = 'idle'", long="\x1b[31m" + "command" * 20)
    world.rows("UPDATE deferred_job SET account_id = :long WHERE id = '3'", long="account" * 20)
    take(world)
    world.rows(
        "UPDATE statistic SET value = jsonb_set(value, '{issues,queued}', '987654') WHERE name = 'jobs'"
    )

    lines = on_screen(render(read_statistics()), width) + on_screen(
        render_account(read_account_statistics("acc")), width
    )

    assert max(len(line) for line in lines) <= width
    (issues,) = [line.split() for line in lines if line.startswith(" issues") and "987,654" in line]
    assert issues[1:] == ["987,654", "1", "1", "1", "1", "5"]
    (account,) = [line.split() for line in lines if line.startswith(" acc ")]
    assert account[1:] == ["1", "1", "1", "1", "0", "3"]
    assert any(line.startswith(" ·[31mcommand") for line in lines)
    assert "\x1b" not in "".join(lines)
