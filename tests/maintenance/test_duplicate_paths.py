"""Areas and jobs that were made twice, while paths were compared with their case, are joined by `crawlyard migrate`."""

from datetime import UTC, datetime
from typing import Any

import pytest

from persistence.maintenance.duplicates import AreaAt, JobAt
from persistence.schema.ids import JobId
from persistence.schema.states import JobStatus
from support.command import Run
from support.worlds.world import World
from tasks.maintenance.duplicate_jobs import same_jobs
from tasks.maintenance.duplicate_paths import merges

CREATED = "2026-05-04T03:02:0{}+00"


@pytest.fixture
def before(world: World) -> World:
    """A world without notes of spellings, as an older version, or the web app, leaves it."""
    world.account("other")
    return world


def area(world: World, path: str, id_: int, *accounts: str) -> None:
    """An area of an older version, the newer the higher its id."""
    world.rows(
        "INSERT INTO area VALUES (:path, :id, 'x', 'project', CAST(:at AS timestamptz))",
        path=path,
        id=f"gid://gitlab/Project/{id_}",
        at=CREATED.format(id_),
    )
    for account in accounts:
        world.rows("INSERT INTO area_authorization VALUES (:account, :path)", account=account, path=path)


def job(world: World, path: str, at: int, **columns: Any) -> str:
    """A job that an older version has made and queued, with the identity that it had there."""
    columns = {"command": "issues", "created_at": CREATED.format(at)} | columns
    id_ = world.insert_job(full_path=path, **columns)
    world.deliver("jobs.enqueue", job_ids=[id_])
    world.rows(
        """UPDATE job_queue SET identity = jsonb_build_array(CAST(:command AS text),
                  'https://gitlab.example.org/api/graphql', CAST(:path AS text), '')::text
            WHERE web_app_job_id = :id""",
        command=columns["command"],
        path=path,
        id=id_,
    )
    return id_


def forget_spellings(world: World) -> None:
    """As if no job had been queued by this version."""
    world.rows("DELETE FROM path_spelling")


def identities(world: World) -> list[Any]:
    """The identities that entries have, by path."""
    return world.rows(
        "SELECT job.full_path, q.identity FROM job_queue q JOIN job ON job.id = web_app_job_id "
        "WHERE identity IS NOT NULL ORDER BY 1"
    )


def test_duplicates_are_joined(before: World, run: Run) -> None:
    """What refers to areas is pointed at the one that stays; the counts are printed before anything is changed."""
    area(before, "MyGroup/Foo", 1, "acc", "other")
    area(before, "mygroup/foo", 2, "acc")
    older, newer = job(before, "MyGroup/Foo", 1), job(before, "mygroup/foo", 2)
    other = job(before, "MyGroup/Foo", 1, command="commits")
    for linked, path in ((older, "MyGroup/Foo"), (newer, "mygroup/foo"), (other, "MyGroup/Foo")):
        before.rows("INSERT INTO job_area VALUES (:id, :path)", id=linked, path=path)
    forget_spellings(before)

    output = run("migrate")

    (told,) = output.out.splitlines()[1:]
    assert told.endswith(": 1 area, 1 job. Cancelling (duplicate_path), since not ended: 1 job.")
    assert before.rows("SELECT full_path FROM area") == [("mygroup/foo",)]
    assert before.rows("SELECT * FROM area_authorization ORDER BY 1") == [
        ("acc", "mygroup/foo"),
        ("other", "mygroup/foo"),
    ]
    assert before.rows("SELECT DISTINCT full_path, count(*) FROM job_area GROUP BY 1") == [("mygroup/foo", 3)]
    assert [before.job(id_).status for id_ in (older, newer, other)] == ["cancelled", "queued", "queued"]
    assert before.entry(older).error == "duplicate_path"
    (event,) = before.events("job_updated")
    assert (event.job_id, event.payload) == (
        older,
        {"status": "cancelled", "reason": "duplicate_path", "same_as": newer},
    )
    before.submit(before.order(namespace_path="MYGROUP/FOO", command="commits"))
    assert before.scalar("SELECT count(*) FROM job") == 3
    assert [path for path, _ in identities(before)] == ["MyGroup/Foo", "mygroup/foo"]
    assert all("mygroup/foo" in identity for _, identity in identities(before))


def test_joining_again_changes_nothing(before: World, run: Run) -> None:
    """And nothing is said of it."""
    job(before, "A/b", 1)
    job(before, "a/B", 2)
    run("migrate")
    snapshot = before.snapshot()

    output = run("migrate", "--json").json

    assert output["duplicate_paths"] == {"areas": 0, "jobs": 0, "to_cancel": 0}
    assert before.snapshot() == snapshot


def test_a_running_job_stays(before: World, run: Run) -> None:
    """The attempt goes on, though another job is newer."""
    running = job(before, "A/b", 1)
    crawler = before.crawler()
    before.assign()
    crawler.sends("job_started", crawler.orders()[0])
    waiting = job(before, "a/b", 2)

    run("migrate")

    assert [before.job(id_).status for id_ in (running, waiting)] == ["running", "cancelled"]
    assert len(crawler.orders()) == 1


def test_of_two_running_jobs_the_older_is_revoked(before: World, run: Run) -> None:
    """Its crawler's slot is free again."""
    ids = [job(before, "A/b", 1), job(before, "a/b", 2)]
    crawler = before.crawler()
    before.assign()
    for order in crawler.orders():
        crawler.sends("job_started", order)

    run("migrate")

    assert [before.job(id_).status for id_ in ids] == ["cancelled", "running"]
    assert len(crawler.orders()) == 1
    assert before.events("job_revoked")[0].job_id == ids[0]


def test_jobs_of_an_older_database_are_left_alone(before: World, run: Run) -> None:
    """Until they are adopted."""
    ids = [job(before, "A/b", 1), job(before, "a/b", 2)]
    before.rows("UPDATE adoption SET adopted_from = now()")

    run("migrate")

    assert [before.job(id_).status for id_ in ids] == ["queued", "queued"]


def test_a_job_for_another_id_is_another_job(before: World, run: Run) -> None:
    """Its account only proposes that the path has that id."""
    ids = [job(before, "A/b", 1), job(before, "a/b", 2)]
    before.rows(
        """UPDATE job_queue SET data = '{"entity_id": "7", "without_area": true}' WHERE web_app_job_id = :id""",
        id=ids[0],
    )

    run("migrate")

    assert [before.job(id_).status for id_ in ids] == ["queued", "queued"]


@pytest.mark.parametrize(
    ("areas", "merged"),
    [
        ([("a/b", None), ("A/b", None)], {"A/b": "a/b"}),
        ([("a/b", "x"), ("A/b", None), ("A/B", "x")], {"A/b": "a/b", "A/B": "a/b"}),
        ([("a/b", "x"), ("A/b", "y")], {}),
        ([("a/b", "x"), ("A/b", "y"), ("A/B", "y"), ("a/B", None)], {"A/B": "A/b"}),
    ],
)
def test_areas_of_one_host_are_joined_with_the_first(
    areas: list[tuple[str, str | None]], merged: dict[str, str]
) -> None:
    """An area whose host is not known is left alone where there are several."""
    assert merges(AreaAt("a/b", *one) for one in areas) == merged


@pytest.mark.parametrize(
    ("statuses", "stays"),
    [
        (["queued", "queued"], 1),
        (["running", "queued"], 0),
        (["running", "running"], 1),
        (["queued", "failed"], 0),
        (["queued", "finished"], 1),
        (["paused", "cancelled"], 0),
        (["failed", "cancelled"], 1),
    ],
)
def test_the_job_that_stays(statuses: list[str], stays: int) -> None:
    """The running one, else the newest that has not ended in vain."""
    now = datetime.now(UTC)
    jobs = [JobAt(JobId(str(n)), JobStatus(s), "a", now, "i", None) for n, s in enumerate(statuses)]
    (group,) = same_jobs(jobs)

    assert group[0].id == str(stays)
