"""After the web app has deleted an account, the clean-up erases what still names it."""

import pytest

from support.worlds.ages import clean_up
from support.worlds.world import World

NAMING = """
    SELECT 'lane' FROM account_lane WHERE account_id = :id
    UNION ALL SELECT 'origin' FROM account_origin WHERE account_id = :id
    UNION ALL SELECT 'event' FROM dispatch_event WHERE account_id = :id OR payload::text LIKE '%Ann%'
    UNION ALL SELECT 'rejected' FROM rejected_message WHERE payload::text LIKE '%"' || :id || '"%'
    UNION ALL SELECT 'refresh' FROM credential_refresh WHERE account_id = :id
    UNION ALL SELECT 'area change' FROM area_change WHERE account_id = :id
    UNION ALL SELECT 'deferred' FROM deferred_job WHERE account_id = :id
"""


def named(world: World, account: str) -> set[str]:
    """What names an account."""
    return {row[0] for row in world.rows(NAMING, id=account)}


def use(world: World, account: str) -> None:
    """Leave a row of every kind that names the account."""
    world.account(account)
    world.deliver("jobs.pause", account_id=account, reason=f"Ann asked for {account}")
    world.deliver("jobs.submit", orders=[world.order(account_id=account, priority="no number")])
    world.rows(f"""
        INSERT INTO credential_refresh (token_hash, account_id, started_at, ended_at, claimed_by, outcome)
        VALUES ('hash', '{account}', now(), now(), '', '');
        INSERT INTO account_origin (account_id, origin, bound_by) VALUES ('{account}', 'https://x.example', 'test')
        ON CONFLICT DO NOTHING;
        INSERT INTO area_change (id, full_path, gitlab_id, former_path, account_id, job_id)
        VALUES ('change of {account}', 'new', 'gid', 'old', '{account}', 'job');
        INSERT INTO deferred_job (id, account_id, command, full_path, priority, spawned_from)
        VALUES ('job of {account}', '{account}', 'group', 'path of {account}', 1, 'job')
    """)


ALL = {"lane", "origin", "event", "rejected", "refresh", "area change", "deferred"}


def test_nothing_names_a_deleted_account_after_the_clean_up(world: World) -> None:
    """Another account keeps all of it, also one whose id contains that of the deleted one."""
    use(world, "gone")
    use(world, "gone too")
    world.rows("DELETE FROM account WHERE id = 'gone'")
    assert named(world, "gone") == ALL

    clean_up(world)

    assert named(world, "gone") - {"event"} == set()
    assert world.rows("SELECT FROM dispatch_event WHERE account_id = 'gone'") == []
    assert named(world, "gone too") == ALL


def test_what_is_erased_is_read_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page is read, whatever its size."""
    monkeypatch.setattr("tasks.maintenance.erasure.EVENTS", 1)
    monkeypatch.setattr("tasks.maintenance.erasure.REJECTED", 1)
    use(world, "kept")
    use(world, "gone")
    use(world, "gone as well")
    world.rows("DELETE FROM account WHERE id LIKE 'gone%'")

    clean_up(world)

    assert world.rows("SELECT account_id FROM account_lane") == [("kept",)]
    assert world.scalar("SELECT count(*) FROM rejected_message") == 1
    assert {row[0] for row in world.rows("SELECT account_id FROM dispatch_event")} == {"kept"}


def test_an_erasure_out_of_time_is_taken_up_by_the_next_clean_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row by which the account is found goes last."""
    use(world, "gone")
    world.rows("DELETE FROM account WHERE id = 'gone'")
    with monkeypatch.context() as hurried:
        hurried.setattr("tasks.maintenance.erasure.TIME_LIMIT_S", 0)
        clean_up(world)
    assert named(world, "gone") == ALL

    clean_up(world)

    assert named(world, "gone") == set()
