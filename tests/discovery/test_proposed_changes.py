"""A change of an area that other accounts use is proposed: nothing of theirs changes until it is confirmed."""

from typing import Any

import pytest

from support.worlds.discoveries import GROUP_COMMANDS, PROJECT_COMMANDS, Discoverer, group, project
from support.worlds.world import World

LATER = "2026-05-04T03:02:09Z"
LATEST = "2026-05-04T03:02:10Z"

BELONGINGS = """
    SELECT 'area', full_path, gitlab_id FROM area
    UNION ALL SELECT 'authorized', area_id, "accountId" FROM area_authorization WHERE "accountId" = 'victim'
    UNION ALL SELECT command, full_path, status FROM job WHERE "accountId" = 'victim'
    UNION ALL SELECT link.full_path, "jobId", '' FROM job_area link JOIN job ON job.id = "jobId"
               WHERE "accountId" = 'victim'
    UNION ALL SELECT 'host', full_path, host FROM area_host
    UNION ALL SELECT 'entry', web_app_job_id, identity FROM job_queue WHERE account_id = 'victim'
     ORDER BY 1, 2, 3
"""


@pytest.fixture
def victim(world: World) -> Discoverer:
    """The discovery of another account, which found `victim/secret` (42) in `victim` (7)."""
    world.account("victim")
    found = Discoverer.at_work(world, account="victim")
    found.finds(group("victim", 7), project("victim/secret", 42))
    return found


@pytest.fixture
def attacker(world: World, victim: Discoverer) -> Discoverer:
    """The discovery of the account `acc`."""
    assert victim
    return Discoverer.at_work(world)


def proposals(world: World) -> list[Any]:
    """The proposed changes."""
    return world.rows(
        "SELECT gitlab_id, full_path, former_path, former_gitlab_id, account_id FROM area_change"
        " WHERE status = 'proposed' ORDER BY 1, 2, 5"
    )


def own_jobs(world: World, path: str) -> set[str]:
    """The commands of the attacker's jobs at a path."""
    rows = world.rows(
        """SELECT command FROM job WHERE full_path = :path AND "accountId" = 'acc'""", path=path
    )
    return {command for (command,) in rows}


@pytest.mark.parametrize(
    "found",
    [
        [project("acc/trap", 42)],
        [project("victim/secret", 99)],
        [project("victim", 42)],
        [project("acc/trap", 42), project("victim/secret", 99)],
        [group("acc/trap", 7), project("acc/trap/secret", 42)],
    ],
    ids=["it moves", "its path gets another id", "it moves onto another", "both", "its group moves"],
)
def test_nothing_of_another_account_changes(
    world: World, attacker: Discoverer, found: list[dict[str, Any]]
) -> None:
    """Each change is proposed instead, once, however often it is found."""
    before = world.rows(BELONGINGS)

    attacker.finds(*found, at=LATER)
    attacker.finds(*found, at=LATEST)

    assert world.rows(BELONGINGS) == before
    assert len(proposals(world)) == len(found)
    assert len(world.events("area_change_proposed")) == len(found)
    assert world.events("area_changed") == []
    assert world.rejections() == []
    assert world.rows("""SELECT * FROM area_authorization WHERE "accountId" = 'acc'""") == []


def test_the_discoverer_is_not_held_up(world: World, attacker: Discoverer) -> None:
    """Its own jobs are made at the new path without the area, and ordered with the id that was found."""
    attacker.finds(project("acc/moved", 42), project("victim/secret", 99), at=LATER)

    assert own_jobs(world, "acc/moved") == own_jobs(world, "victim/secret") == set(PROJECT_COMMANDS)
    crawler = world.crawler(capacity=60)
    world.assign()
    ordered = world.rows(
        """SELECT DISTINCT o.account_id, job.full_path, o."entityId" FROM crawler_order o
             JOIN job_assignment_mapping USING (crawler_job_id) JOIN job ON job.id = web_app_job_id
            WHERE o.connection_id = :id AND job.full_path <> 'victim' ORDER BY 1, 2""",
        id=crawler.id,
    )
    assert ordered == [
        ("acc", "acc/moved", "gid://gitlab/Project/42"),
        ("acc", "victim/secret", "gid://gitlab/Project/99"),
        ("victim", "victim/secret", "gid://gitlab/Project/42"),
    ]


def test_its_own_jobs_are_made_once(world: World, attacker: Discoverer) -> None:
    """Found again, they exist."""
    for at in (LATER, LATEST):
        attacker.finds(project("victim/secret", 99), at=at)

    made = world.scalar("""SELECT count(*) FROM job WHERE "accountId" = 'acc' AND spawned_from IS NOT NULL""")
    assert made == len(PROJECT_COMMANDS)


def test_a_failed_job_of_another_account_is_not_queued_by_a_proposal(
    world: World, attacker: Discoverer
) -> None:
    """Neither at a path that is to get another id, nor at one to which an area is to move."""
    job_id = world.insert_job(accountId="victim", full_path="acc/trap", command="issues")
    world.deliver("jobs.enqueue", job_ids=[job_id])
    world.rows("UPDATE job_queue SET status = 'failed', settled_at = now() WHERE account_id = 'victim'")
    world.rows("""UPDATE job SET status = 'failed' WHERE "accountId" = 'victim'""")

    attacker.finds(project("victim/secret", 99), project("acc/trap", 42), at=LATER)

    assert (
        world.scalar("SELECT count(*) FROM job_queue WHERE account_id = 'victim' AND status <> 'failed'") == 0
    )


def test_jobs_of_another_account_without_an_authorization_count_too(world: World) -> None:
    """An order adds its area without authorizing its account for it."""
    world.account("victim")
    world.submit(
        world.order(account_id="victim", command="project", namespace_path="victim/secret", entity_id="42")
    )
    attacker = Discoverer.at_work(world)

    attacker.finds(project("acc/trap", 42), at=LATER)

    assert world.rows("SELECT full_path FROM area") == [("victim/secret",)]
    assert len(proposals(world)) == 1


def test_an_area_that_no_other_account_uses_moves_at_once(world: World, attacker: Discoverer) -> None:
    """Beside one whose move is proposed; what was found at its path stays out of its place."""
    attacker.finds(project("acc/a", 1), project("acc/b", 2), at=LATER)

    attacker.finds(project("acc/c", 1), project("acc/a", 2), project("acc/b", 42), at=LATEST)

    areas = world.rows("SELECT full_path, gitlab_id FROM area WHERE full_path LIKE 'acc/%' ORDER BY 1")
    assert areas == [("acc/a", "gid://gitlab/Project/2"), ("acc/c", "gid://gitlab/Project/1")]
    assert [row[:3] for row in proposals(world)] == [("gid://gitlab/Project/42", "acc/b", "victim/secret")]


def test_what_takes_the_place_of_an_area_that_only_proposes_to_move_is_proposed(
    world: World, attacker: Discoverer
) -> None:
    """The area stays, so its path would get another id."""
    attacker.finds(project("acc/a", 1), at=LATER)

    attacker.finds(project("acc/b", 42), project("victim/secret", 1), at=LATEST)

    assert [row[:2] for row in proposals(world)] == [
        ("gid://gitlab/Project/1", "victim/secret"),
        ("gid://gitlab/Project/42", "acc/b"),
    ]
    assert ("acc/a", "gid://gitlab/Project/1") in world.rows("SELECT full_path, gitlab_id FROM area")


def test_a_path_in_another_case_is_the_same_path(world: World, attacker: Discoverer) -> None:
    """The known spelling stands; it is no move, and the account is authorized."""
    attacker.finds(project("Victim/Secret", 42), at=LATER)

    assert proposals(world) == []
    assert world.rows("SELECT full_path FROM area ORDER BY 1") == [("victim",), ("victim/secret",)]
    assert world.rows("""SELECT area_id FROM area_authorization WHERE "accountId" = 'acc'""") == [
        ("victim/secret",)
    ]


def test_a_proposal_ends_when_its_account_finds_the_area_in_its_place(
    world: World, attacker: Discoverer
) -> None:
    """It was moved back, or was never gone."""
    attacker.finds(project("acc/trap", 42), at=LATER)
    attacker.finds(project("victim/secret", 42), at=LATEST)

    assert proposals(world) == []


def test_a_proposed_path_is_in_the_scope_of_its_own_account(world: World, victim: Discoverer) -> None:
    """The order is for the group by its id: its projects at the new path are found in later frames."""
    assert victim
    (job_id,) = world.submit(world.order(command="groupSubgroups", namespace_path="victim", entity_id="7"))
    crawler = world.crawler(capacity=1)
    world.rows("UPDATE job_queue SET priority = 9 WHERE web_app_job_id = :id", id=job_id)
    world.assign()
    discoverer = Discoverer(world, crawler, *crawler.orders(), job_id)

    discoverer.finds(group("lab", 7), at=LATER)
    discoverer.finds(project("lab/tool", 50), project("elsewhere", 51), at=LATEST)

    assert own_jobs(world, "lab") == set(GROUP_COMMANDS)
    assert own_jobs(world, "lab/tool") == set(PROJECT_COMMANDS)
    assert world.rejections() == [("crawler.frames", "out_of_scope")]


def decide(world: World, *, accept: bool, **which: Any) -> None:
    """Accept or reject the proposed changes with these values."""
    where = " AND ".join(["status = 'proposed'", *(f"{name} = :{name}" for name in which)])
    ids = [id_ for (id_,) in world.rows(f"SELECT id FROM area_change WHERE {where} ORDER BY id", **which)]
    assert ids
    world.deliver("areas.decide", change_ids=ids, accept=accept)


def test_an_accepted_move_is_made_for_all_accounts(world: World, attacker: Discoverer) -> None:
    """The proposing account is authorized for it, and its jobs are linked to the area."""
    attacker.finds(project("lab/tool", 42), at=LATER)

    decide(world, accept=True)

    assert ("lab/tool", "gid://gitlab/Project/42") in world.rows("SELECT full_path, gitlab_id FROM area")
    assert world.rows("SELECT * FROM area_authorization WHERE area_id LIKE '%tool' ORDER BY 1") == [
        ("acc", "lab/tool"),
        ("victim", "lab/tool"),
    ]
    assert world.scalar("SELECT count(*) FROM job WHERE full_path = 'victim/secret'") == 0
    assert world.scalar("SELECT count(*) FROM job_area WHERE full_path = 'lab/tool'") == 2 * len(
        PROJECT_COMMANDS
    )
    assert world.scalar("SELECT host FROM area_host WHERE full_path = 'lab/tool'") == "gitlab.example.org"
    assert [e.payload["former_path"] for e in world.events("area_changed")] == ["victim/secret"]
    assert proposals(world) == []
    assert world.rejections() == []


def test_an_accepted_group_takes_its_subtree_along(world: World, victim: Discoverer) -> None:
    """With the jobs of all accounts; an area whose new path is taken stays, and so does a group beside it."""
    victim.finds(group("victims", 8), project("victim/sub/x", 43), project("victim/y", 44), at=LATER)
    attacker = Discoverer.at_work(world)
    attacker.finds(group("lab", 7), project("lab/secret", 42), project("lab/y", 50), at=LATEST)

    decide(world, accept=True, full_path="lab")

    assert world.rows("SELECT full_path, gitlab_id FROM area ORDER BY 1") == [
        ("lab", "gid://gitlab/Group/7"),
        ("lab/secret", "gid://gitlab/Project/42"),
        ("lab/sub/x", "gid://gitlab/Project/43"),
        ("lab/y", "gid://gitlab/Project/50"),
        ("victim/y", "gid://gitlab/Project/44"),
        ("victims", "gid://gitlab/Group/8"),
    ]
    rows = world.rows(
        """SELECT DISTINCT full_path FROM job WHERE "accountId" = 'victim' ORDER BY 1 NULLS LAST"""
    )
    assert [path for (path,) in rows] == ["lab", "lab/secret", "lab/sub/x", "victim/y", "victims", None]
    assert world.rows("""SELECT area_id FROM area_authorization WHERE "accountId" = 'acc' ORDER BY 1""") == [
        ("lab",), ("lab/secret",), ("lab/y",),
    ]  # fmt: skip
    assert proposals(world) == []


def test_an_accepted_id_is_given_to_the_path(world: World, attacker: Discoverer) -> None:
    """Everything attached to the path stays, and the jobs of both accounts are ordered with the new id."""
    attacker.finds(project("victim/secret", 99), at=LATER)

    decide(world, accept=True)

    assert ("victim/secret", "gid://gitlab/Project/99") in world.rows("SELECT full_path, gitlab_id FROM area")
    crawler = world.crawler(capacity=60)
    world.assign()
    ordered = world.rows(
        """SELECT DISTINCT o."entityId" FROM crawler_order o JOIN job_assignment_mapping USING (crawler_job_id)
             JOIN job ON job.id = web_app_job_id WHERE full_path = 'victim/secret' AND o.connection_id = :id""",
        id=crawler.id,
    )
    assert ordered == [("gid://gitlab/Project/99",)]
    assert [e.payload["former_gitlab_id"] for e in world.events("area_changed")] == [
        "gid://gitlab/Project/42"
    ]


def test_a_rejected_change_is_not_proposed_again(world: World, attacker: Discoverer) -> None:
    """Nor is it made, by whoever accepts it later."""
    attacker.finds(project("acc/trap", 42), at=LATER)
    (change,) = world.rows("SELECT id FROM area_change WHERE status = 'proposed'")
    before = world.rows(BELONGINGS)

    decide(world, accept=False)
    attacker.finds(project("acc/trap", 42), at=LATEST)
    world.deliver("areas.decide", change_ids=[change.id], accept=True)

    assert world.rows("SELECT status FROM area_change") == [("rejected",)]
    assert world.rows(BELONGINGS) == before


def test_a_change_is_decided_once(world: World, attacker: Discoverer) -> None:
    """A repeated message changes nothing."""
    attacker.finds(project("lab/tool", 42), at=LATER)
    (change,) = world.rows("SELECT id FROM area_change WHERE status = 'proposed'")
    world.deliver("areas.decide", change_ids=[change.id], accept=True)
    before = world.snapshot()

    for accept in (True, False):
        world.deliver("areas.decide", change_ids=[change.id], accept=accept)

    assert world.snapshot() == before


def test_an_area_is_not_merged_into_one_that_is_proposed_to_move(world: World, victim: Discoverer) -> None:
    """Its accounts would be authorized for the other one: that has to be decided first."""
    victim.finds(project("victim/other", 43), at=LATER)
    attacker = Discoverer.at_work(world)
    attacker.finds(project("victim/other", 42), project("victim/third", 43), at=LATER)

    decide(world, accept=True, full_path="victim/other")
    assert world.rejections() == [("areas.decide", "area_change_conflicts")]
    decide(world, accept=True, full_path="victim/third")
    decide(world, accept=True, full_path="victim/other")

    assert world.rows("SELECT full_path, gitlab_id FROM area ORDER BY 1") == [
        ("victim", "gid://gitlab/Group/7"),
        ("victim/other", "gid://gitlab/Project/42"),
        ("victim/third", "gid://gitlab/Project/43"),
    ]
    assert len(world.rejections()) == 1


def swapping(world: World, victim: Discoverer) -> None:
    """Two groups with projects have swapped their paths, as another account finds."""
    victim.finds(group("other", 8), project("other/mine", 43), at=LATER)
    attacker = Discoverer.at_work(world)
    attacker.finds(group("other", 7), group("victim", 8), at=LATER)


def test_two_areas_that_swap_paths_are_accepted_together(world: World, victim: Discoverer) -> None:
    """With all that is in them; each was in the way of the other, so that neither could be accepted."""
    swapping(world, victim)
    jobs = world.scalar("SELECT count(*) FROM job")

    decide(world, accept=True)

    assert world.rows("SELECT full_path, gitlab_id FROM area ORDER BY 1") == [
        ("other", "gid://gitlab/Group/7"),
        ("other/secret", "gid://gitlab/Project/42"),
        ("victim", "gid://gitlab/Group/8"),
        ("victim/mine", "gid://gitlab/Project/43"),
    ]
    assert world.rejections() == []
    assert proposals(world) == []
    assert {(e.payload["former_path"], e.payload["full_path"]) for e in world.events("area_changed")} == {
        ("victim", "other"),
        ("other", "victim"),
    }
    assert world.rows("""SELECT area_id FROM area_authorization WHERE "accountId" = 'acc' ORDER BY 1""") == [
        ("other",), ("victim",),
    ]  # fmt: skip
    wrong = 'SELECT count(*) FROM job JOIN job_area ON "jobId" = id WHERE job.full_path <> job_area.full_path'
    assert world.scalar(wrong) == 0
    assert world.scalar("SELECT count(*) FROM job") == jobs
    stale = "JOIN job ON job.id = web_app_job_id WHERE identity::jsonb ->> 2 <> full_path"
    assert world.scalar(f"SELECT count(*) FROM job_queue {stale}") == 0


def test_one_of_two_areas_that_swap_paths_is_not_accepted_alone(world: World, victim: Discoverer) -> None:
    """The rejection says that both must be accepted in one command; nothing has changed."""
    swapping(world, victim)
    before = world.rows(BELONGINGS)

    decide(world, accept=True, full_path="other")

    assert world.rejections() == [("areas.decide", "area_change_conflicts")]
    detail = world.scalar("SELECT detail FROM rejected_message")
    assert detail.endswith("proposed to move to victim: they swap their paths, accept both in one command")
    assert world.rows(BELONGINGS) == before


def test_an_unknown_change_is_rejected(world: World) -> None:
    """A change that was made without a proposal cannot be decided either."""
    discoverer = Discoverer.at_work(world)
    discoverer.finds(project("a", 1))
    discoverer.finds(project("b", 1), at=LATER)
    made = world.scalar("SELECT id FROM area_change")

    world.deliver("areas.decide", change_ids=["01ARZ3NDEKTSV4RRFFQ69G5FAX", made], accept=True)

    assert world.rejections() == [("areas.decide", "unknown_area_change")] * 2
