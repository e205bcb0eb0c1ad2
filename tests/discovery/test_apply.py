"""Discoveries become areas, authorizations and child jobs: once each, protected by the fence."""

from datetime import timedelta
from functools import reduce
from typing import Any

import pytest

from support.worlds.discoveries import GROUP_COMMANDS, PROJECT_COMMANDS, Discoverer, group, project, user
from support.worlds.world import World


@pytest.fixture
def discoverer(world: World) -> Discoverer:
    """A crawler that runs the discovery of the account `acc`."""
    return Discoverer.at_work(world)


def commands_at(world: World, path: str) -> list[str]:
    """The commands of the jobs at a path."""
    rows = world.rows("SELECT command FROM job WHERE full_path = :path ORDER BY command", path=path)
    return [command for (command,) in rows]


def test_a_discovery_creates_areas_authorizations_and_child_jobs(
    world: World, discoverer: Discoverer
) -> None:
    """The child jobs of a group and a project inherit from the discovery's own job."""
    discoverer.finds(group("team", 7), project("team/tool", 42, priority=3))

    assert world.rows("SELECT full_path, gitlab_id, name, type FROM area ORDER BY 1") == [
        ("team", "gid://gitlab/Group/7", "team", "group"),
        ("team/tool", "gid://gitlab/Project/42", "tool", "project"),
    ]
    assert world.rows("SELECT * FROM area_authorization ORDER BY 2") == [
        ("acc", "team"),
        ("acc", "team/tool"),
    ]
    assert commands_at(world, "team") == sorted(GROUP_COMMANDS)
    assert commands_at(world, "team/tool") == sorted(PROJECT_COMMANDS)
    parent = world.job(discoverer.job_id)
    children = world.rows("SELECT * FROM job WHERE spawned_from = :id", id=discoverer.job_id)
    assert len(children) == len(GROUP_COMMANDS) + len(PROJECT_COMMANDS)
    for child in children:
        assert (child.accountId, child.userId, child.provider) == ("acc", parent.userId, "gitlab-cloud")
        assert (child.gitlabGraphQLUrl, child.status) == (parent.gitlabGraphQLUrl, "queued")
        entry = world.entry(child.id)
        assert (entry.status, entry.spawned_from) == ("pending", discoverer.job_id)
        assert entry.priority == (3 if child.full_path == "team/tool" else 1)
        assert world.rows('SELECT full_path FROM job_area WHERE "jobId" = :id', id=child.id) == [
            (child.full_path,)
        ]
    assert {e.job_id for e in world.events("job_created")} >= {child.id for child in children}
    assert world.rejections() == []


def test_a_discovery_records_its_own_progress(world: World, discoverer: Discoverer) -> None:
    """The job's progress has sums over all frames and the last summary, and the job keeps running."""
    discoverer.finds(group("a", 1), summary={"total_groups": 2, "hierarchy_depth": 4})
    discoverer.finds(group("b", 2), project("b/p", 3), project("b/p", 3))

    sums = world.job(discoverer.job_id).progress["discovery"]
    assert sums == {
        "frames": 2, "groups": 2, "projects": 1, "users": 0, "namespaces": 0,
        "jobs": 13, "existing": 0, "queuedAgain": 0, "deferred": 0, "notCreated": 0, "outOfScope": 0,
            "areasRefused": 0,
        "summary": {"totalGroups": 2, "hierarchyDepth": 4},
    }  # fmt: skip
    assert world.job(discoverer.job_id).status == "running"
    assert discoverer.attempt().status == "running"


def test_applied_discoveries_are_listed_as_they_were_sent(world: World, discoverer: Discoverer) -> None:
    """A crawler repeats its discoveries until it finds their timestamps in the view."""
    discoverer.finds(group("a", 1), at="2026-05-04T03:02:01.5Z")
    discoverer.finds(group("b", 2), at="2026-05-04 03:02:02+02:00")

    assert world.scalar("SELECT discoveries FROM crawler_order") == [
        "2026-05-04T03:02:01.5Z",
        "2026-05-04 03:02:02+02:00",
    ]


def test_a_repeated_discovery_changes_nothing(world: World, discoverer: Discoverer) -> None:
    """It may be repeated in another message or in the same one."""
    frame = discoverer.frame(group("a", 1))
    world.sends(frame, frame)
    before = world.snapshot()

    world.sends(frame)

    assert world.snapshot() == before
    assert discoverer.attempt().stale_words == 0
    assert world.scalar("SELECT count(*) FROM job WHERE full_path = 'a'") == len(GROUP_COMMANDS)


def test_two_discoveries_with_one_timestamp_are_both_applied(world: World, discoverer: Discoverer) -> None:
    """A crawler's clock may be coarse, so a discovery is known by its content as well."""
    discoverer.finds(group("a", 1), at="2026-05-04T03:02:01Z")
    discoverer.finds(group("b", 2), at="2026-05-04T03:02:01Z")

    assert world.rows("SELECT full_path FROM area ORDER BY 1") == [("a",), ("b",)]


def test_the_older_frame_form_is_equivalent(world: World, discoverer: Discoverer) -> None:
    """It has entityType and entities, and its ids may be numbers."""
    discoverer.sends(
        "discovery",
        entityType="project",
        entities=[{"id": 42, "name": "Tool", "path": "team/tool", "parentId": 7}],
    )

    assert world.rows("SELECT full_path, gitlab_id, name, type FROM area") == [
        ("team/tool", "gid://gitlab/Project/42", "Tool", "project")
    ]
    assert commands_at(world, "team/tool") == sorted(PROJECT_COMMANDS)


def test_a_group_and_a_project_with_one_number_are_two_areas(world: World, discoverer: Discoverer) -> None:
    """GitLab numbers them separately, but the column is unique."""
    discoverer.finds(group("a", 42), project("a/b", 42))

    ids = {id_ for (id_,) in world.rows("SELECT gitlab_id FROM area")}
    assert ids == {"gid://gitlab/Group/42", "gid://gitlab/Project/42"}


def test_a_user_and_a_namespace_have_one_job_each(world: World, discoverer: Discoverer) -> None:
    """A user has no area; a namespace is a group that has to be discovered in turn."""
    discoverer.finds(
        user("ann", 3), group("team", 7), {**group("team", 7), "job_type": "discover_namespaces"}
    )

    assert commands_at(world, "ann") == ["users"]
    assert commands_at(world, "team") == sorted([*GROUP_COMMANDS, "GROUP_PROJECT_DISCOVERY"])
    assert world.rows("SELECT full_path FROM area") == [("team",)]


@pytest.mark.parametrize("status", ["queued", "running", "finished", "cancelled", "paused"])
def test_an_existing_child_is_unchanged(world: World, discoverer: Discoverer, status: str) -> None:
    """It is left alone unless it has failed, even if the web app has inserted it."""
    child = world.insert_job(full_path="a", command="group", status=status)

    discoverer.finds(group("a", 1))

    assert commands_at(world, "a") == sorted(GROUP_COMMANDS)
    assert world.job(child).status == status
    assert world.job(discoverer.job_id).progress["discovery"]["existing"] == 1


def test_a_failed_child_is_requeued(world: World, discoverer: Discoverer) -> None:
    """It continues from its resume state, with nothing counted against it."""
    discoverer.finds(group("a", 1))
    child = world.scalar("SELECT id FROM job WHERE command = 'groupMembers'")
    world.rows(
        """UPDATE job SET status = 'failed', finished_at = now(), resume_state = '{"currentPage": 2}'
                   WHERE id = :id""",
        id=child,
    )
    world.rows("UPDATE job_queue SET status = 'failed', settled_at = now(), attempts = 3 WHERE web_app_job_id = :id",
               id=child)  # fmt: skip

    discoverer.finds(group("a", 1), at="2026-05-04T03:02:09Z")

    job, entry = world.job(child), world.entry(child)
    assert (job.status, job.finished_at, job.resume_state) == ("queued", None, {"currentPage": 2})
    assert (entry.status, entry.attempts, entry.settled_at) == ("pending", 0, None)
    assert world.job(discoverer.job_id).progress["discovery"]["queuedAgain"] == 1
    assert commands_at(world, "a") == sorted(GROUP_COMMANDS)


def test_a_child_failed_by_the_web_app_during_its_attempt_is_unchanged(
    world: World, discoverer: Discoverer
) -> None:
    """Its attempt is live, so reconcile has to deal with it first."""
    discoverer.finds(group("a", 1))
    child = world.scalar("SELECT id FROM job WHERE command = 'groupMembers'")
    world.crawler(capacity=4)
    world.assign()
    world.rows("UPDATE job SET status = 'failed' WHERE id = :id", id=child)

    discoverer.finds(group("a", 1), at="2026-05-04T03:02:09Z")

    assert (world.job(child).status, world.entry(child).status) == ("failed", "processing")


def test_an_old_nested_discovery_is_repeated(world: World, discoverer: Discoverer) -> None:
    """A discovery that finished 49 hours ago is repeated, one that finished 47 hours ago is not."""
    ended = {"old": timedelta(hours=49), "new": timedelta(hours=47)}
    for path, age in ended.items():
        id_ = world.insert_job(full_path=path, command="GROUP_PROJECT_DISCOVERY", status="finished")
        world.rows(
            "UPDATE job SET finished_at = now() - CAST(:age AS interval) WHERE id = :id", age=age, id=id_
        )

    discoverer.finds(
        *({**group(path, n), "job_type": "discover_namespaces"} for n, path in enumerate(ended, 1))
    )

    rows = world.rows("SELECT full_path, status FROM job WHERE full_path IN ('old', 'new') ORDER BY 1")
    assert rows == [("new", "finished"), ("old", "queued")]


def test_bad_entities_are_rejected_one_by_one(world: World, discoverer: Discoverer) -> None:
    """The valid entities beside them are applied."""
    bad: list[Any] = [
        {"job_type": "crawl_group"},
        {**project("a/b", 5), "namespace_path": "/a/"},
        {**project("a/c", 6), "entity_id": "gid://gitlab/Group/6"},
        "no object",
        {**project("a/d", 7), "priority": "high"},
        {**project("good", 8), "entity_id": True},
        {**project("a/\0", 9)},
    ]

    discoverer.finds(*bad, project("good", 1), project("good", 2), project("other", 1))

    assert world.rows("SELECT full_path, gitlab_id FROM area") == [("good", "gid://gitlab/Project/1")]
    assert commands_at(world, "good") == sorted(PROJECT_COMMANDS)
    reasons = sorted(reason for _, reason in world.rejections())
    assert reasons == ["contradicts_another"] * 2 + ["invalid"] * len(bad)


def test_a_contradicting_item_does_not_affect_other_items(world: World, discoverer: Discoverer) -> None:
    """Its path and its id remain available to later items."""
    discoverer.finds(project("a", 1), project("b", 1), project("b", 2), project("a", 3), project("c", 3))

    assert [path for (path,) in world.rows("SELECT full_path FROM area ORDER BY 1")] == ["a", "b", "c"]
    assert [reason for _, reason in world.rejections()] == ["contradicts_another"] * 2


def test_an_entity_refused_by_the_database_is_rejected_alone(world: World, discoverer: Discoverer) -> None:
    """Here its name is too long for the web app's column."""
    world.rows("ALTER TABLE area ALTER COLUMN name TYPE varchar(20)")
    try:
        discoverer.finds(*(project(f"a/{n}", n) for n in range(1, 8)), project(f"a/{'x' * 30}", 9))
    finally:
        world.rows("ALTER TABLE area ALTER COLUMN name TYPE text")

    assert world.scalar("SELECT count(*) FROM area") == 7
    assert world.scalar("SELECT count(*) FROM job WHERE spawned_from IS NOT NULL") == 7 * len(
        PROJECT_COMMANDS
    )
    assert world.rejections() == [("crawler.frames", "refused_by_database")]
    assert world.job(discoverer.job_id).progress["discovery"]["projects"] == 7


def test_the_fence_protects_discoveries(world: World, discoverer: Discoverer) -> None:
    """Discoveries of another connection or a closed attempt are stale; those of an unknown attempt are rejected."""
    stranger = world.crawler()
    stranger.sends("jobs_discovered", discoverer.order, discovered_jobs=[group("a", 1)])
    discoverer.crawler.sends("jobs_discovered", "never-given", discovered_jobs=[group("b", 1)])
    discoverer.crawler.fails(discoverer.order)
    discoverer.finds(group("c", 1))

    assert world.scalar("SELECT count(*) FROM area") == 0
    assert world.scalar("SELECT count(*) FROM job") == 1
    assert discoverer.attempt().stale_words == 2
    assert world.rejections() == [("crawler.frames", "unknown_assignment")]


@pytest.mark.parametrize("depth", [60, 300, 600])
def test_a_deeply_nested_entity_does_not_affect_others(
    world: World, discoverer: Discoverer, depth: int
) -> None:
    """It is rejected alone, for known and unknown attempts."""
    nested: Any = reduce(lambda inner, _: [inner], range(depth), [])
    unknown = discoverer.frame(nested)
    unknown["frame"]["jobId"] = "never-given"

    world.sends(
        discoverer.frame(nested, project("a", 1)),
        unknown,
        discoverer.crawler.frame("job_completed", discoverer.order),
    )

    assert world.job(discoverer.job_id).status == "finished"
    assert commands_at(world, "a") == sorted(PROJECT_COMMANDS)
    assert sorted(reason for _, reason in world.rejections()) == ["invalid", "unknown_assignment"]


def test_a_discovery_overtaken_by_its_completion_is_applied(world: World, discoverer: Discoverer) -> None:
    """It may come in a later message or later in the same one, and the job stays finished."""
    late = discoverer.frame(group("b", 2), at="2026-05-04T03:02:09Z")
    world.sends(discoverer.crawler.frame("job_completed", discoverer.order), late)
    discoverer.finds(group("a", 1))

    assert world.rows("SELECT full_path FROM area ORDER BY 1") == [("a",), ("b",)]
    assert world.job(discoverer.job_id).status == "finished"
    assert world.job(discoverer.job_id).progress["discovery"]["groups"] == 2
    assert discoverer.attempt().stale_words == 0


def test_a_discovery_after_a_failure_is_stale(world: World, discoverer: Discoverer) -> None:
    """A discovery before the failure in the same message is applied."""
    early = discoverer.frame(group("a", 1))
    late = discoverer.frame(group("b", 2), at="2026-05-04T03:02:09Z")
    failed = discoverer.crawler.frame("job_failed", discoverer.order, error="it broke", isRecoverable=True)

    world.sends(early, failed, late)

    assert world.rows("SELECT full_path FROM area") == [("a",)]
    assert world.job(discoverer.job_id).status == "queued"
    assert discoverer.attempt().stale_words == 1


def test_a_discovery_of_an_earlier_completed_attempt_is_stale(world: World, discoverer: Discoverer) -> None:
    """The job was ordered again since."""
    discoverer.crawler.sends("job_completed", discoverer.order)
    world.submit(world.order(web_app_job_id=discoverer.job_id, force=True))
    world.assign()

    discoverer.finds(group("a", 1))

    assert world.scalar("SELECT count(*) FROM area") == 0
    assert world.attempts(discoverer.job_id)[0].stale_words == 1


def test_every_discovery_counts_as_a_heartbeat(world: World, discoverer: Discoverer) -> None:
    """Even a malformed one does."""
    discoverer.crawler.silent_for(60)
    discoverer.crawler.sends("jobs_discovered", discoverer.order, discovered_jobs="none")

    assert world.now() - discoverer.crawler.row().last_heartbeat < timedelta(seconds=5)
    assert world.rejections() == [("crawler.frames", "invalid")]


def test_the_list_of_applied_discoveries_is_bounded(
    world: World, discoverer: Discoverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest are dropped; one of those that is repeated is applied again, which changes nothing."""
    monkeypatch.setattr("persistence.attempts.attempts._MAX_DISCOVERIES", 2)
    times = [f"2026-05-04T03:02:0{second}Z" for second in range(4)]
    for at in times:
        discoverer.finds(group("a", 1), at=at)

    assert [discovery["timestamp"] for discovery in discoverer.attempt().discoveries] == times[-2:]
    discoverer.finds(group("a", 1), at=times[0])
    assert commands_at(world, "a") == sorted(GROUP_COMMANDS)


def test_a_group_that_is_also_a_namespace_is_one_area_in_any_order(
    world: World, discoverer: Discoverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later chunk of the frame finds the area that an earlier one has added."""
    monkeypatch.setattr("tasks.discovery.apply.CHUNK", 1)

    discoverer.finds(group("team", 7), {**group("team", 7), "job_type": "discover_namespaces"})

    assert world.rejections() == []
    assert world.rows("SELECT full_path FROM area") == [("team",)]
    assert commands_at(world, "team") == sorted([*GROUP_COMMANDS, "GROUP_PROJECT_DISCOVERY"])


def test_an_authorization_scope_job_is_not_requeued(world: World, discoverer: Discoverer) -> None:
    """A discovery leaves such a job at its path alone, however it ended."""
    own = world.insert_job(full_path="a", command="authorizationScope", status="failed")

    discoverer.finds(group("a", 1))

    assert world.job(own).status == "failed"
    assert world.rows("SELECT * FROM job_queue WHERE web_app_job_id = :id", id=own) == []
    assert commands_at(world, "a") == sorted(["authorizationScope", *GROUP_COMMANDS])
