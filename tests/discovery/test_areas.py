"""Areas that moved, paths that got another id, and hosts that collide in tables without hosts."""

from typing import Any

import pytest
from sqlalchemy import event

from persistence.db.engine import engine
from support.worlds.discoveries import PROJECT_COMMANDS, Discoverer, group, project
from support.worlds.world import World

LATER = "2026-05-04T03:02:09Z"


@pytest.fixture
def discoverer(world: World) -> Discoverer:
    """A crawler that runs a discovery, which has found `team/tool` (42). No other account uses it."""
    found = Discoverer.at_work(world)
    found.finds(project("team/tool", 42))
    world.account("other")
    return found


def areas(world: World) -> list[Any]:
    """Path and id of every area."""
    return world.rows("SELECT full_path, gitlab_id FROM area ORDER BY 1")


def authorized(world: World) -> list[Any]:
    """The authorizations, by account and path."""
    return world.rows("SELECT * FROM area_authorization ORDER BY 2, 1")


def changes(world: World) -> list[Any]:
    """The recorded changes of areas."""
    return world.rows(
        "SELECT full_path, gitlab_id, former_path, former_gitlab_id, account_id FROM area_change ORDER BY 1"
    )


def test_a_moved_area_takes_everything_attached_to_it_along(world: World, discoverer: Discoverer) -> None:
    """Authorizations, links and jobs move too, so its children exist already and none is created twice."""
    before = world.rows("SELECT id, command, status FROM job ORDER BY 1")

    discoverer.finds(project("lab/tool", 42), at=LATER)

    assert areas(world) == [("lab/tool", "gid://gitlab/Project/42")]
    assert authorized(world) == [("acc", "lab/tool")]
    assert world.rows("SELECT DISTINCT full_path FROM job_area") == [("lab/tool",)]
    assert world.rows("SELECT id, command, status FROM job ORDER BY 1") == before
    assert world.rows("SELECT DISTINCT full_path FROM job WHERE spawned_from IS NOT NULL") == [("lab/tool",)]
    assert changes(world) == [("lab/tool", "gid://gitlab/Project/42", "team/tool", None, "acc")]
    (event,) = world.events("area_changed")
    assert (event.job_id, event.payload["former_path"]) == (discoverer.job_id, "team/tool")


def test_an_order_at_the_former_path_creates_another_job(world: World, discoverer: Discoverer) -> None:
    """The identities have moved along with the jobs."""
    discoverer.finds(project("lab/tool", 42), at=LATER)

    world.submit(
        world.order(namespace_path="team/tool", command="issues"),
        world.order(namespace_path="lab/tool", command="issues"),
    )

    made = world.rows("SELECT full_path FROM job WHERE command = 'issues' ORDER BY 1")
    assert made == [("lab/tool",), ("team/tool",)]
    assert [event.payload["existing"] for event in world.events("job_created")][-2:] == [False, True]


def test_a_path_with_a_new_id_keeps_everything_attached_to_it(world: World, discoverer: Discoverer) -> None:
    """A project that was deleted and created again keeps its jobs and authorizations, which belong to the path."""
    discoverer.finds(project("team/tool", 99), at=LATER)

    assert areas(world) == [("team/tool", "gid://gitlab/Project/99")]
    assert authorized(world) == [("acc", "team/tool")]
    assert changes(world) == [
        ("team/tool", "gid://gitlab/Project/99", None, "gid://gitlab/Project/42", "acc")
    ]
    assert world.scalar("SELECT count(*) FROM job WHERE full_path = 'team/tool'") == len(PROJECT_COMMANDS)


def test_two_areas_may_swap_paths(world: World, discoverer: Discoverer) -> None:
    """Each keeps its authorizations."""
    discoverer.finds(project("team/two", 43), at=LATER)

    discoverer.finds(project("team/tool", 43), project("team/two", 42), at="2026-05-04T03:02:10Z")

    assert areas(world) == [("team/tool", "gid://gitlab/Project/43"), ("team/two", "gid://gitlab/Project/42")]
    assert authorized(world) == [("acc", "team/tool"), ("acc", "team/two")]
    assert world.scalar("SELECT count(*) FROM job WHERE spawned_from IS NOT NULL") == 2 * len(
        PROJECT_COMMANDS
    )
    assert {(c[0], c[2], c[3]) for c in changes(world)} == {
        ("team/tool", "team/two", None),
        ("team/two", "team/tool", None),
    }
    assert world.rejections() == []


def test_many_areas_move_in_chunks(
    world: World, discoverer: Discoverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each move is slow, so one statement for all of them would run into its timeout every time."""
    monkeypatch.setattr("persistence.areas.areas._MOVES_PER_STATEMENT", 2)
    discoverer.finds(*(project(f"a/{n}", n) for n in range(1, 8)), at=LATER)
    moved = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if "UPDATE area SET full_path" in statement:
            moved.append(len(values["formers"]))

    event.listen(engine(), "before_cursor_execute", note)
    try:
        discoverer.finds(*(project(f"b/{n}", n) for n in range(1, 8)), at="2026-05-04T03:02:10Z")
        discoverer.finds(*(project(f"b/{n % 7 + 1}", n) for n in range(1, 8)), at="2026-05-04T03:02:11Z")
    finally:
        event.remove(engine(), "before_cursor_execute", note)

    assert moved == [2, 2, 2, 1] * 3  # those that swap places first move to temporary paths
    assert areas(world)[:7] == [
        (f"b/{n % 7 + 1}", f"gid://gitlab/Project/{n}") for n in (7, 1, 2, 3, 4, 5, 6)
    ]
    assert world.rejections() == []


def test_an_area_moved_onto_another_is_merged_with_it(world: World, discoverer: Discoverer) -> None:
    """The other area was not found elsewhere."""
    discoverer.finds(project("team/two", 43), at=LATER)

    discoverer.finds(project("team/two", 42), at="2026-05-04T03:02:10Z")

    assert areas(world) == [("team/two", "gid://gitlab/Project/42")]
    assert authorized(world) == [("acc", "team/two")]
    (change,) = changes(world)
    assert change[2:4] == ("team/tool", "gid://gitlab/Project/43")
    assert world.rows("SELECT DISTINCT full_path FROM job_area") == [("team/two",)]


def test_a_chain_of_moves_ends_at_the_right_paths(world: World, discoverer: Discoverer) -> None:
    """The first area takes the path that the second one has just left."""
    discoverer.finds(project("team/two", 43), at=LATER)

    discoverer.finds(project("team/two", 42), project("team/three", 43), at="2026-05-04T03:02:10Z")

    assert areas(world) == [
        ("team/three", "gid://gitlab/Project/43"),
        ("team/two", "gid://gitlab/Project/42"),
    ]
    assert authorized(world) == [("acc", "team/three"), ("acc", "team/two")]


def test_a_bare_number_written_by_the_web_app_is_the_same_id(world: World, discoverer: Discoverer) -> None:
    """No change is recorded; the id is rewritten as a global id."""
    world.rows("UPDATE area SET gitlab_id = '42'")

    discoverer.finds(project("team/tool", 42), at=LATER)

    assert areas(world) == [("team/tool", "gid://gitlab/Project/42")]
    assert changes(world) == []


def test_a_new_name_is_written(world: World, discoverer: Discoverer) -> None:
    """No change is recorded for it."""
    discoverer.finds(project("team/tool", 42, entity_name="The Tool"), at=LATER)

    assert world.rows("SELECT name FROM area") == [("The Tool",)]
    assert changes(world) == []


@pytest.mark.parametrize(
    ("found", "detail"),
    [
        (project("team/tool", 77), "team/tool (gid://gitlab/Project/42) is an area of gitlab.example.org"),
        (project("elsewhere", 42), "team/tool (gid://gitlab/Project/42) is an area of gitlab.example.org"),
    ],
    ids=["its path", "its id"],
)
def test_an_area_of_another_host_is_rejected(
    world: World, discoverer: Discoverer, found: dict[str, Any], detail: str
) -> None:
    """One path or one id cannot be two areas in this schema; the other entities are applied."""
    elsewhere = Discoverer.at_work(world, account="other", host="git.example.net")

    elsewhere.finds(found, project("new", 5))

    assert areas(world) == [("new", "gid://gitlab/Project/5"), ("team/tool", "gid://gitlab/Project/42")]
    assert world.rejections() == [("crawler.frames", "area_of_another_host")]
    assert world.scalar("SELECT detail FROM rejected_message") == detail
    assert world.scalar(
        """SELECT count(*) FROM job WHERE "gitlabGraphQLUrl" LIKE '%git.example.net%'"""
    ) == 1 + len(PROJECT_COMMANDS)
    assert changes(world) == []


def test_the_host_of_an_area_of_the_web_app_is_that_of_its_jobs(world: World) -> None:
    """The shared table has no column for it."""
    world.rows(
        "INSERT INTO area (full_path, gitlab_id, type) VALUES ('old', 'gid://gitlab/Group/1', 'group')"
    )
    world.insert_job(full_path="old", command="group", gitlabGraphQLUrl="https://git.example.net/api/graphql")
    discoverer = Discoverer.at_work(world)

    discoverer.finds(group("old", 1))

    assert world.rejections() == [("crawler.frames", "area_of_another_host")]
    assert authorized(world) == []


def test_an_area_with_jobs_of_several_hosts_belongs_to_the_discovering_host(world: World) -> None:
    """A path without a branch may be ordered on each host."""
    discoverer = Discoverer.at_work(world)
    for host in ("git.example.net", "gitlab.example.org", "www.example.com"):
        world.submit(world.order(namespace_path="a", command="project", entity_id="1", gitlab_host=host))

    discoverer.finds(project("a", 1))

    assert world.rejections() == []
    assert world.rows("SELECT * FROM area_host") == [("a", "gitlab.example.org")]


def test_a_path_without_an_area_belongs_to_no_host(world: World, discoverer: Discoverer) -> None:
    """The web app has deleted the area."""
    world.rows("DELETE FROM area_authorization")
    world.rows("DELETE FROM area")
    world.account("third")
    elsewhere = Discoverer.at_work(world, account="third", host="git.example.net")

    elsewhere.finds(project("team/tool", 42))

    assert authorized(world) == [("third", "team/tool")]
    assert world.rejections() == []


def test_an_area_refused_by_an_index_of_the_web_app_is_rejected_alone(world: World) -> None:
    """It is not mistaken for an area that another transaction adds at the same time."""
    discoverer = Discoverer.at_work(world)
    world.rows("CREATE UNIQUE INDEX one_of_a_name ON area (name)")
    try:
        discoverer.finds(project("a/tool", 1), project("b/tool", 2), project("c/other", 3))
    finally:
        world.rows("DROP INDEX one_of_a_name")

    assert areas(world) == [("a/tool", "gid://gitlab/Project/1"), ("c/other", "gid://gitlab/Project/3")]
    assert world.rejections() == [("crawler.frames", "refused_by_database")]


def test_a_discovery_without_a_host_is_applied(world: World) -> None:
    """The web app need not name a GitLab; two concurrent discoveries still create each child once."""
    world.bind("https://gitlab.example.org")
    job_id = world.insert_job(command="GROUP_PROJECT_DISCOVERY", full_path=None, gitlabGraphQLUrl=None)
    world.deliver("jobs.enqueue", job_ids=[job_id])
    crawler = world.crawler(capacity=1)
    world.assign()
    discoverer = Discoverer(world, crawler, *crawler.orders(), job_id)

    discoverer.finds(project("a", 1))
    discoverer.finds(project("a", 1), at=LATER)

    assert world.scalar("SELECT count(*) FROM job WHERE spawned_from IS NOT NULL") == len(PROJECT_COMMANDS)
    assert world.rows("SELECT host FROM area_host") == []


def test_a_moved_job_with_a_branch_stays_when_its_new_identity_is_taken(
    world: World, discoverer: Discoverer
) -> None:
    """The shared unique index allows one job per path, branch and command."""
    for path in ("team/tool", "lab/tool"):
        world.insert_job(full_path=path, branch="main", command="commits")

    discoverer.finds(project("lab/tool", 42), at=LATER)

    rows = world.rows("SELECT full_path FROM job WHERE command = 'commits' ORDER BY 1")
    assert rows == [("lab/tool",), ("team/tool",)]
    assert areas(world) == [("lab/tool", "gid://gitlab/Project/42")]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Limit how long a unit is retried."""
    monkeypatch.setenv("CRAWLYARD_DATABASE_WAIT", "1")
    world.reload_settings()


@pytest.mark.usefixtures("impatient")
def test_a_moved_area_refused_by_an_index_of_the_web_app_is_rejected_alone(
    world: World, discoverer: Discoverer
) -> None:
    """The message is not retried for ever."""
    discoverer.finds(group("lab", 5), at=LATER)
    world.rows("CREATE UNIQUE INDEX of_the_web_apps_own ON area (split_part(full_path, '/', 1))")
    try:
        discoverer.finds(project("lab/tool", 42), project("other", 2), at="2026-05-04T03:02:10Z")
    finally:
        world.rows("DROP INDEX of_the_web_apps_own")

    assert world.rejections() == [("crawler.frames", "refused_by_database")]
    assert [path for path, _ in areas(world)] == ["lab", "other", "team/tool"]
    assert world.scalar("SELECT count(*) FROM job WHERE full_path = 'lab/tool'") == 0


@pytest.mark.usefixtures("impatient")
def test_an_area_found_at_the_path_of_an_unmovable_area_is_rejected_with_it(
    world: World, discoverer: Discoverer
) -> None:
    """Here a table of the web app refers to the area; the other entities are applied."""
    world.rows("CREATE TABLE starred AS SELECT full_path FROM area")
    world.rows("ALTER TABLE starred ADD FOREIGN KEY (full_path) REFERENCES area")
    before = areas(world)
    try:
        discoverer.finds(project("lab/tool", 42), project("team/tool", 43), project("other", 44), at=LATER)
    finally:
        world.rows("DROP TABLE starred")

    assert world.rejections() == [("crawler.frames", "refused_by_database")] * 2
    assert areas(world) == [("other", "gid://gitlab/Project/44"), *before]
    assert world.scalar("SELECT count(*) FROM job WHERE full_path = 'lab/tool'") == 0


@pytest.mark.usefixtures("impatient")
def test_an_area_refused_after_its_move_is_rejected_once(world: World, discoverer: Discoverer) -> None:
    """Here its new name is too long; the area at its new path is its own, not a concurrent addition."""
    world.rows("ALTER TABLE area ALTER COLUMN name TYPE varchar(20)")
    try:
        discoverer.finds(project("lab/tool", 42, entity_name="x" * 30), project("other", 44), at=LATER)
    finally:
        world.rows("ALTER TABLE area ALTER COLUMN name TYPE text")

    assert world.rejections() == [("crawler.frames", "refused_by_database")]
    assert [path for path, _ in areas(world)] == ["lab/tool", "other"]


def test_a_discovery_without_a_host_matches_areas_of_any_host(world: World, discoverer: Discoverer) -> None:
    """The host that is known of the area stays."""
    job_id = world.insert_job(command="GROUP_PROJECT_DISCOVERY", full_path=None, gitlabGraphQLUrl=None)
    world.deliver("jobs.enqueue", job_ids=[job_id])
    world.deliver("jobs.prioritize", job_ids=[job_id], priority=9)
    crawler = world.crawler(capacity=1)
    world.assign()
    nameless = Discoverer(world, crawler, *crawler.orders(), job_id)
    known = world.rows("SELECT * FROM area_host ORDER BY 1")

    nameless.finds(project("team/tool", 42), at=LATER)

    assert world.rejections() == []
    assert len(nameless.attempt().discoveries) == 1
    assert world.rows("SELECT * FROM area_host ORDER BY 1") == known != []
