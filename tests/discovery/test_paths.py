"""Paths that differ in case alone are one path on one GitLab, with the spelling of its latest answer."""

from typing import Any

import pytest

from support.worlds.ages import clean_up
from support.worlds.discoveries import PROJECT_COMMANDS, Discoverer, group, project
from support.worlds.world import World

LATER = "2026-05-04T03:02:09Z"
LATEST = "2026-05-04T03:02:10Z"

GLOBAL_ID = "gid://gitlab/Project/{}"


def areas(world: World) -> list[Any]:
    """Path and id of every area."""
    return world.rows("SELECT full_path, gitlab_id FROM area ORDER BY 1")


def counted(world: World, path: str) -> Any:
    """How many jobs stand at exactly this path."""
    return world.scalar("SELECT count(*) FROM job WHERE full_path = :path", path=path)


@pytest.fixture
def discoverer(world: World) -> Discoverer:
    """A crawler that runs a discovery, which has found `MyGroup/Foo` (42). No other account uses it."""
    found = Discoverer.at_work(world)
    found.finds(project("MyGroup/Foo", 42))
    world.account("other")
    return found


@pytest.mark.parametrize(
    ("first", "second"), [("MyGroup/Foo", "mygroup/foo"), ("mygroup/foo", "MyGroup/FOO"), ("A/b", "a/B")]
)
def test_orders_for_one_path_mean_one_job(world: World, first: str, second: str) -> None:
    """Also within one message; the job keeps the path that was ordered first."""
    world.submit(world.order(namespace_path=first, command="issues"))
    world.submit(
        world.order(namespace_path=second, command="issues"),
        world.order(namespace_path=first.upper(), command="issues"),
        world.order(namespace_path=f"{second}/Other", command="issues"),
        world.order(namespace_path=f"{first}/other", command="issues"),
    )

    assert world.rows("SELECT full_path FROM job ORDER BY created_at, id") == [(first,), (f"{second}/Other",)]
    assert world.rejections() == []


def test_an_order_finds_the_job_that_the_web_app_has_spelt_otherwise(world: World) -> None:
    """It is known by its spelling from the moment on that it is queued."""
    job_id = world.insert_job(full_path="MyGroup/Foo", command="issues")
    world.deliver("jobs.enqueue", job_ids=[job_id])

    world.submit(world.order(namespace_path="mygroup/foo", command="issues"))

    assert world.rows("SELECT id FROM job") == [(job_id,)]


def test_a_branch_has_its_case(world: World) -> None:
    """Git's branches differ by it."""
    world.submit(
        world.order(namespace_path="a", command="commits", branch="Main"),
        world.order(namespace_path="A", command="commits", branch="main"),
    )

    assert world.scalar("SELECT count(*) FROM job") == 2


def test_the_same_path_in_another_case_on_another_host_is_another_job(world: World) -> None:
    """The shared unique index allows both, even with a branch."""
    for path, host in (("A/b", "gitlab.example.org"), ("a/B", "git.example.net")):
        world.submit(
            world.order(namespace_path=path, command="commits", branch="main", gitlab_host=host),
            world.order(namespace_path=path, command="project", entity_id=str(len(host)), gitlab_host=host),
        )

    assert world.rejections() == []
    assert world.scalar("SELECT count(*) FROM job") == 4
    assert areas(world) == [("A/b", GLOBAL_ID.format(18)), ("a/B", GLOBAL_ID.format(15))]
    assert world.rows(
        'SELECT DISTINCT job.full_path = link.full_path FROM job JOIN job_area link ON id = link."jobId"'
    ) == [(True,)]


def test_an_order_is_linked_to_the_area_in_another_case(world: World, discoverer: Discoverer) -> None:
    """It makes no second area, though the web app has written the id in its own form."""
    world.rows("UPDATE area SET gitlab_id = '42'")

    (job_id,) = world.submit(
        world.order(namespace_path="mygroup/foo", command="project", branch="x", entity_id="42")
    )
    crawler = world.crawler(capacity=9)
    world.assign()

    assert [path for path, _ in areas(world)] == ["MyGroup/Foo"]
    assert world.rows('SELECT full_path FROM job_area WHERE "jobId" = :id', id=job_id) == [("MyGroup/Foo",)]
    order = world.row(
        """SELECT o."entityId" FROM crawler_order o JOIN job_assignment_mapping a USING (crawler_job_id)
            WHERE a.web_app_job_id = :id""",
        id=job_id,
    )
    assert (order[0], crawler.orders() != []) == ("42", True)


def test_the_latest_spelling_of_gitlab_is_kept(world: World, discoverer: Discoverer) -> None:
    """The area, its authorizations, links and jobs have it, and `area_change` tells."""
    world.deliver(
        "jobs.enqueue",
        job_ids=[world.insert_job(full_path="mygroup/FOO", command="commits")],
    )
    before = world.rows("SELECT id, command, status FROM job ORDER BY 1")

    discoverer.finds(project("mygroup/foo", 42), at=LATER)

    assert areas(world) == [("mygroup/foo", GLOBAL_ID.format(42))]
    assert world.rows("SELECT * FROM area_authorization") == [("acc", "mygroup/foo")]
    assert world.rows("SELECT DISTINCT full_path FROM job_area") == [("mygroup/foo",)]
    assert world.rows("SELECT id, command, status FROM job ORDER BY 1") == before
    assert counted(world, "mygroup/foo") == len(PROJECT_COMMANDS) + 1
    assert world.rows("SELECT full_path, former_path FROM area_change") == [("mygroup/foo", "MyGroup/Foo")]
    world.submit(world.order(namespace_path="MYGROUP/foo", command="issues"))
    assert world.scalar("SELECT count(*) FROM job WHERE command = 'issues'") == 1


def test_a_path_in_another_case_with_another_id_is_the_same_path(
    world: World, discoverer: Discoverer
) -> None:
    """The project was made anew. The next answer about it brings its spelling."""
    discoverer.finds(project("mygroup/foo", 43), at=LATER)

    assert areas(world) == [("MyGroup/Foo", GLOBAL_ID.format(43))]
    assert world.rows("SELECT * FROM area_authorization") == [("acc", "MyGroup/Foo")]
    assert world.scalar("SELECT count(*) FROM job WHERE spawned_from IS NOT NULL") == len(PROJECT_COMMANDS)

    discoverer.finds(project("mygroup/foo", 43), at=LATEST)

    assert areas(world) == [("mygroup/foo", GLOBAL_ID.format(43))]
    assert counted(world, "mygroup/foo") == len(PROJECT_COMMANDS)
    assert world.rejections() == []


def test_an_area_that_moves_to_a_path_in_another_case_is_merged_with_what_is_there(
    world: World, discoverer: Discoverer
) -> None:
    """Two areas never have one path."""
    discoverer.finds(project("lab/tool", 7), at=LATER)

    discoverer.finds(project("mygroup/FOO", 7), at=LATEST)

    assert areas(world) == [("MyGroup/Foo", GLOBAL_ID.format(7))]
    assert world.rejections() == []


def test_an_area_that_others_use_is_changed_in_no_case(world: World, discoverer: Discoverer) -> None:
    """Whether it is the id that would change, or the spelling alone."""
    world.rows("INSERT INTO area_authorization VALUES ('other', 'MyGroup/Foo')")

    discoverer.finds(project("mygroup/foo", 42), at=LATER)
    discoverer.finds(project("mygroup/foo", 43), at=LATEST)

    assert areas(world) == [("MyGroup/Foo", GLOBAL_ID.format(42))]
    proposed = "SELECT full_path, gitlab_id, former_gitlab_id FROM area_change WHERE status = 'proposed'"
    assert world.rows(proposed) == [("MyGroup/Foo", GLOBAL_ID.format(43), GLOBAL_ID.format(42))]


def test_a_move_into_another_case_is_proposed_once(world: World, discoverer: Discoverer) -> None:
    """And an operator who accepts it settles all spellings."""
    world.rows("INSERT INTO area_authorization VALUES ('other', 'MyGroup/Foo')")
    discoverer.finds(project("lab/Foo", 42), at=LATER)
    discoverer.finds(project("Lab/foo", 42), at=LATEST)
    (change,) = world.rows("SELECT id, full_path FROM area_change WHERE status = 'proposed'")

    world.deliver("areas.decide", change_ids=[change[0]], accept=True)

    assert areas(world) == [("lab/Foo", GLOBAL_ID.format(42))]
    assert world.rows("SELECT * FROM area_authorization ORDER BY 1") == [
        ("acc", "lab/Foo"),
        ("other", "lab/Foo"),
    ]


def test_a_frame_may_spell_a_path_in_two_ways(world: World) -> None:
    """The first spelling counts; a different id at it still contradicts."""
    discoverer = Discoverer.at_work(world)

    discoverer.finds(group("Team", 1), group("team", 1), project("team/x", 2), project("TEAM/X", 3))

    assert areas(world) == [("Team", "gid://gitlab/Group/1"), ("team/x", GLOBAL_ID.format(2))]
    assert world.rejections() == [("crawler.frames", "contradicts_another")]


def test_an_area_of_another_host_may_have_the_path_in_another_case(
    world: World, discoverer: Discoverer
) -> None:
    """The shared table has room for both, as long as their spellings differ."""
    world.account("third")
    elsewhere = Discoverer.at_work(world, account="third", host="git.example.net")

    elsewhere.finds(project("mygroup/foo", 5))

    assert areas(world) == [("MyGroup/Foo", GLOBAL_ID.format(42)), ("mygroup/foo", GLOBAL_ID.format(5))]
    assert world.rejections() == []


def test_a_child_is_deferred_once_whatever_its_case(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second answer finds what the first one has deferred."""
    monkeypatch.setenv("CRAWLYARD_PENDING_CAP", "1")
    world.reload_settings()
    discoverer = Discoverer.at_work(world)
    discoverer.finds(project("Team/Tool", 42))

    discoverer.finds(project("team/tool", 42), at=LATER)

    assert world.scalar("SELECT count(*) FROM deferred_job") == len(PROJECT_COMMANDS) - 1


def test_spellings_that_nothing_has_are_forgotten(world: World, discoverer: Discoverer) -> None:
    """After two days, since a unit may be adding a row with one: a crawler can spell a path in any number of ways."""
    for number, path in enumerate(("mYgroup/Foo", "MYgroup/Foo")):
        discoverer.finds(project(path, 42), at=f"2026-05-04T03:02:1{number}Z")
    world.submit(world.order(namespace_path="Other", command="issues"))

    clean_up(world)
    assert world.scalar("SELECT count(*) FROM path_spelling") == 4
    world.rows("UPDATE path_spelling SET noted_at = now() - interval '3 days'")
    clean_up(world)

    assert world.rows("SELECT full_path FROM path_spelling ORDER BY 1") == [("MYgroup/Foo",), ("Other",)]


def test_a_spelling_is_noted_anew_where_it_is_used_again(world: World) -> None:
    """At most once a day, so that adding jobs waits for no other unit."""
    world.submit(world.order(namespace_path="Team/Tool", command="issues"))
    first = world.scalar("SELECT noted_at FROM path_spelling")
    world.submit(world.order(namespace_path="Team/Tool", command="commits"))
    assert world.scalar("SELECT noted_at FROM path_spelling") == first

    world.rows("UPDATE path_spelling SET noted_at = now() - interval '25 hours'")
    world.submit(world.order(namespace_path="Team/Tool", command="branches"))
    assert world.scalar("SELECT noted_at > now() - interval '1 hour' FROM path_spelling")
