"""A discovery that finished recently is not repeated unless it is forced."""

from datetime import timedelta

import pytest

from support.worlds.world import World


def discovery(world: World, **changes: object) -> dict[str, object]:
    """An order to discover everything that the account `acc` sees."""
    return world.order(**{"command": "GROUP_PROJECT_DISCOVERY", "namespace_path": None, **changes})


def finish(world: World, job_id: str, ago: timedelta) -> None:
    """Set a job to finished, *ago* before now."""
    world.rows("UPDATE job SET status = 'finished', finished_at = now() - CAST(:ago AS interval) WHERE id = :id",
               ago=ago, id=job_id)  # fmt: skip
    world.rows(
        "UPDATE job_queue SET status = 'completed', settled_at = now() WHERE web_app_job_id = :id", id=job_id
    )


@pytest.mark.parametrize("path", [None, "team"], ids=["all of an account", "a group"])
@pytest.mark.parametrize(
    ("hours", "force", "status"),
    [(47, False, "finished"), (49, False, "queued"), (47, True, "queued")],
    ids=["recent", "old", "forced"],
)
def test_a_finished_discovery_is_repeated_only_when_old_or_forced(
    world: World,
    path: str | None,
    hours: int,
    force: bool,  # noqa: FBT001
    status: str,
) -> None:
    """It is the answer for 48 hours; older or forced, the same job runs again."""
    (first,) = world.submit(discovery(world, namespace_path=path))
    finish(world, first, timedelta(hours=hours))

    world.submit(discovery(world, namespace_path=path, force=force))

    assert world.rows("SELECT id, status FROM job") == [(first, status)]
    assert [(e.job_id, e.payload["existing"]) for e in world.events("job_created")] == [
        (first, False),
        (first, True),
    ]
    assert (world.entry(first).status == "pending") == (status == "queued")


@pytest.mark.parametrize("status", ["queued", "running", "paused"])
def test_a_discovery_that_is_under_way_is_the_answer(world: World, status: str) -> None:
    """Two orders for one account make one discovery."""
    (first,) = world.submit(discovery(world))
    world.rows("UPDATE job SET status = :status", status=status)

    world.submit(discovery(world), discovery(world))

    assert world.rows("SELECT id, status FROM job") == [(first, status)]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_discovery_that_did_not_finish_is_repeated(world: World, status: str) -> None:
    """It is queued again at once."""
    (first,) = world.submit(discovery(world))
    world.rows("UPDATE job SET status = :status, finished_at = now()", status=status)
    world.rows("UPDATE job_queue SET status = 'failed', settled_at = now(), attempts = 3")

    world.submit(discovery(world))

    assert world.rows("SELECT id, status FROM job") == [(first, "queued")]
    assert (world.entry(first).status, world.entry(first).attempts) == ("pending", 0)


def test_discoveries_of_other_accounts_and_hosts_are_others(world: World) -> None:
    """The discovery of one account does not show what another account sees."""
    world.account("other")

    world.submit(
        discovery(world),
        discovery(world, account_id="other"),
        discovery(world, gitlab_host="git.example.net"),
    )

    assert world.scalar("SELECT count(*) FROM job WHERE status = 'queued'") == 3


def test_what_the_web_app_inserts_itself_is_as_good_as_forced(world: World) -> None:
    """Its recent predecessor does not keep it from being queued."""
    (first,) = world.submit(discovery(world))
    finish(world, first, timedelta(hours=1))

    second = world.insert_job(command="GROUP_PROJECT_DISCOVERY", full_path=None)
    world.deliver("jobs.enqueue", job_ids=[second])

    assert world.entry(second).status == "pending"
