"""A change of an area is confirmed once two of its accounts see it, through crawlers of two credentials."""

import pytest

from support.worlds.discoveries import Discoverer, group, project
from support.worlds.world import World

LATER = "2026-05-04T03:02:09Z"


@pytest.fixture
def owner(world: World) -> Discoverer:
    """The discovery of an account that uses the area `team/app` (42)."""
    world.account("owner")
    found = Discoverer.at_work(world, account="owner")
    known_as(found, "one")
    found.finds(group("team", 7), project("team/app", 42))
    return found


@pytest.fixture
def other(world: World, owner: Discoverer) -> Discoverer:
    """The discovery of another account that uses it, too."""
    assert owner
    found = Discoverer.at_work(world)
    known_as(found, "two")
    found.finds(project("team/app", 42))
    return found


def known_as(discoverer: Discoverer, credential: str | None) -> None:
    """Let the discoverer's crawler have shown this credential."""
    discoverer.world.rows(
        "UPDATE socket_connection SET crawler_credential = :credential WHERE id = :id",
        credential=credential,
        id=discoverer.crawler.id,
    )


def decide(world: World) -> int:
    """Deliver what was published to decide changes; returns how many messages that were."""
    messages = world.published.of("areas.decide")
    for message in messages:
        world.deliver("areas.decide", **message)
    return len(messages)


def paths(world: World) -> set[str]:
    """Where the area 42 is."""
    return {path for (path,) in world.rows("SELECT full_path FROM area WHERE gitlab_id LIKE '%/42'")}


def test_a_change_that_two_accounts_see_is_made(world: World, owner: Discoverer, other: Discoverer) -> None:
    """For both, with what belongs to it; nothing happens before the second has seen it."""
    other.finds(project("new/app", 42), at=LATER)
    assert decide(world) == 0
    assert paths(world) == {"team/app"}

    owner.finds(project("new/app", 42), at=LATER)
    assert decide(world) == 1

    assert paths(world) == {"new/app"}
    assert world.rows("SELECT DISTINCT status FROM area_change WHERE full_path = 'new/app'") == [("applied",)]
    assert world.rows(
        """SELECT "accountId" FROM area_authorization WHERE area_id = 'new/app' ORDER BY 1"""
    ) == [
        ("acc",),
        ("owner",),
    ]
    assert world.scalar("SELECT count(*) FROM job WHERE full_path = 'team/app'") == 0


def test_a_group_takes_its_projects_along(world: World, owner: Discoverer, other: Discoverer) -> None:
    """Also those that were not found again."""
    other.finds(group("team", 7), at=LATER)
    for one in (other, owner):
        one.finds(group("crew", 7), at="2026-05-04T03:02:10Z")

    decide(world)

    assert paths(world) == {"crew/app"}


@pytest.mark.parametrize("credentials", [("one", "one"), (None, None), ("one", None)], ids=str)
def test_one_crawler_confirms_nothing(
    world: World, owner: Discoverer, other: Discoverer, credentials: tuple[str | None, str | None]
) -> None:
    """Nor do crawlers that cannot be told apart: whoever has taken one over speaks for all of its accounts."""
    for one, credential in zip((owner, other), credentials, strict=True):
        known_as(one, credential)
        one.finds(project("new/app", 42), at=LATER)

    assert decide(world) == 0
    assert paths(world) == {"team/app"}


def test_different_changes_confirm_nothing(world: World, owner: Discoverer, other: Discoverer) -> None:
    """Neither another path for the id, nor another id for the path."""
    owner.finds(project("new/app", 42), at=LATER)
    other.finds(project("newer/app", 42), at=LATER)

    assert decide(world) == 0
    assert paths(world) == {"team/app"}


def test_strangers_confirm_nothing(world: World, owner: Discoverer) -> None:
    """Two accounts, through two crawlers, that do not use the area."""
    assert owner
    for name in ("stranger", "accomplice"):
        world.account(name)
        stranger = Discoverer.at_work(world, account=name)
        known_as(stranger, name)
        stranger.finds(project("trap/app", 42), at=LATER)

    assert decide(world) == 0
    assert paths(world) == {"team/app"}


def test_what_an_operator_has_rejected_is_not_confirmed(
    world: World, owner: Discoverer, other: Discoverer
) -> None:
    """Neither account can propose it again."""
    other.finds(project("new/app", 42), at=LATER)
    (id_,) = world.row("SELECT id FROM area_change WHERE status = 'proposed'")
    world.deliver("areas.decide", change_ids=[id_], accept=False)

    owner.finds(project("new/app", 42), at=LATER)

    assert decide(world) == 0
