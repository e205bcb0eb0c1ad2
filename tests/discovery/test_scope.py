"""An attempt discovers what its order is about, and nothing else."""

from typing import Any

import pytest

from support.worlds.discoveries import PROJECT_COMMANDS, Discoverer, group, project, user
from support.worlds.world import World

LATER = "2026-05-04T03:02:09Z"


def at_work(world: World, command: str, path: str | None = "team", entity_id: str | None = "7") -> Discoverer:
    """A crawler with an order of this command for a group."""
    (job_id,) = world.submit(
        world.order(account_id="acc", command=command, namespace_path=path, entity_id=entity_id)
    )
    crawler = world.crawler(capacity=1)
    world.assign()
    (order,) = crawler.orders()
    return Discoverer(world, crawler, order, job_id)


def paths(world: World) -> list[str]:
    """The paths of the jobs that were discovered."""
    return [
        path
        for (path,) in world.rows(
            "SELECT DISTINCT full_path FROM job WHERE spawned_from IS NOT NULL ORDER BY 1"
        )
    ]


@pytest.mark.parametrize("command", ["issues", "group", "project", "groupMembers", "commits"])
def test_another_command_discovers_nothing(world: World, command: str) -> None:
    """The frame is listed as applied, so that it is not repeated, and leaves one rejection."""
    discoverer = at_work(world, command)
    world.account("victim")
    world.rows("DELETE FROM area")

    discoverer.finds(project("team/secret", 42), group("team", 7))

    assert paths(world) == []
    assert world.rows("SELECT * FROM area") == world.rows("SELECT * FROM area_authorization") == []
    assert world.rejections() == [("crawler.frames", "out_of_scope")]
    assert len(discoverer.attempt().discoveries) == 1
    assert world.job(discoverer.job_id).progress["discovery"]["outOfScope"] == 2


@pytest.mark.parametrize("command", ["GROUP_PROJECT_DISCOVERY", "groupProjects", "groupSubgroups"])
def test_an_order_for_a_group_discovers_in_that_group(world: World, command: str) -> None:
    """Paths are compared without case, by whole names; what lives elsewhere is rejected and counted."""
    discoverer = at_work(world, command)

    discoverer.finds(
        project("Team/tool", 42), project("teams/tool", 43), group("team", 7), project("other/shared", 44)
    )

    assert paths(world) == ["Team/tool", "team"]
    assert [reason for _, reason in world.rejections()] == ["out_of_scope"] * 2
    assert world.job(discoverer.job_id).progress["discovery"]["outOfScope"] == 2


def test_an_account_wide_discovery_finds_shared_projects_too(world: World) -> None:
    """Its order has no path, so all that its account sees is in scope."""
    at_work(world, "GROUP_PROJECT_DISCOVERY", None, None).finds(project("other/shared", 44), user("ann", 1))

    assert paths(world) == ["ann", "other/shared"]
    assert world.rejections() == []


def test_an_order_for_users_discovers_users(world: World) -> None:
    """Users have no path in the tree of groups."""
    at_work(world, "users", "team").finds(user("ann", 1), project("team/tool", 42))

    assert paths(world) == ["ann"]
    assert world.rejections() == [("crawler.frames", "out_of_scope")]


def test_an_order_for_projects_of_a_group_discovers_no_users(world: World) -> None:
    """Only the discovery of a group or an order for users does."""
    at_work(world, "groupProjects").finds(user("ann", 1), project("team/tool", 42))

    assert paths(world) == ["team/tool"]


def test_a_group_that_has_moved_is_in_its_own_scope(world: World) -> None:
    """The scope is the group by its id: its projects at the new path are found, in later frames too."""
    discoverer = at_work(world, "GROUP_PROJECT_DISCOVERY")

    discoverer.finds(project("lab/tool", 42), group("lab", 7))
    discoverer.finds(project("lab/other", 43), project("elsewhere", 44), at=LATER)

    assert paths(world) == ["lab", "lab/other", "lab/tool"]
    assert world.rejections() == [("crawler.frames", "out_of_scope")]


def test_another_group_does_not_move_the_scope(world: World) -> None:
    """Its id is not the order's."""
    at_work(world, "GROUP_PROJECT_DISCOVERY").finds(group("lab", 8), project("lab/tool", 42))

    assert paths(world) == []


@pytest.mark.parametrize(
    "path",
    [
        "acc/trap/../x<b>", "a/..", "./a", "a.git", "a/b.atom", "-a", "a//b", "a/", "é", "a b", "a\n", "a%2fb",
        "/".join("a" * 22), "a" * 256,
    ],
)  # fmt: skip
def test_a_path_that_gitlab_does_not_have_is_rejected(world: World, path: str) -> None:
    """The other items of the frame are applied."""
    discoverer = Discoverer.at_work(world)

    discoverer.finds(project("good", 1), project("x", 2, namespace_path=path), user(path, 3))

    assert paths(world) == ["good"]
    assert world.rejections() == [("crawler.frames", "invalid")] * 2


@pytest.mark.parametrize("path", [".a", "a..b", "A/B_c", "_", "a.gi", "/".join("a" * 21), "a" * 255])
def test_a_path_that_gitlab_has_is_found(world: World, path: str) -> None:
    """A leading dot, two dots in a name, capitals and 20 ancestors are legal."""
    Discoverer.at_work(world).finds(project(path, 1))

    assert paths(world) == [path]
    assert world.rejections() == []


@pytest.mark.parametrize(
    "id_",
    ["javascript:alert(1)//", "gid://gitlab/Project/42/../7", "gid://gitlab/Group/42", "gid://gitlab/Project/",
     "\uff14\uff12", "042", "-1", 0, "gid://other/Project/42", "9" * 20],
)  # fmt: skip
def test_an_id_that_gitlab_does_not_have_is_rejected(world: World, id_: Any) -> None:
    """It would become the entityId of orders."""
    Discoverer.at_work(world).finds(project("a", 1, entity_id=id_), project("b", 2))

    assert paths(world) == ["b"]
    assert world.rejections() == [("crawler.frames", "invalid")]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "\x7f", "a\u2028b"])
def test_a_name_with_control_characters_is_rejected(world: World, name: str) -> None:
    """Any other Unicode is a name, markup included: who shows it has to escape it."""
    Discoverer.at_work(world).finds(
        project("a", 1, entity_name=name), project("b", 2, entity_name="<b>Ж 🦊 \u202fü</b>")
    )

    assert world.rows("SELECT full_path, name FROM area") == [("b", "<b>Ж 🦊 \u202fü</b>")]
    assert world.rejections() == [("crawler.frames", "invalid")]


def test_keys_and_ids_of_jira_stay_as_they_are(world: World) -> None:
    """They are exempt from GitLab's rules, and never become a global id of GitLab."""
    (job_id,) = world.submit(
        world.order(
            provider="jiracloud", command="GROUP_PROJECT_DISCOVERY", namespace_path=None, entity_id=None
        )
    )
    crawler = world.crawler(capacity=1)
    world.assign()
    discoverer = Discoverer(world, crawler, *crawler.orders(), job_id)

    discoverer.finds(project("ÄB", 10001), project("CD", 2, entity_id="gid://gitlab/Project/2"))
    discoverer.finds(project("ÄB", 10001, entity_name="New"), at=LATER)

    assert world.rows("SELECT full_path, gitlab_id, name FROM area") == [("ÄB", "10001", "New")]
    assert world.rejections() == [("crawler.frames", "invalid")]
    assert world.rows("SELECT * FROM area_change") == []
    assert set(PROJECT_COMMANDS) == {
        command for (command,) in world.rows("SELECT command FROM job WHERE spawned_from IS NOT NULL")
    }


def test_an_order_of_jira_has_its_own_id_as_area(world: World) -> None:
    """A number is not taken for GitLab's."""
    world.submit(world.order(provider="jiralocal", command="project", namespace_path="AB", entity_id="10001"))

    assert world.rows("SELECT full_path, gitlab_id FROM area") == [("AB", "10001")]
