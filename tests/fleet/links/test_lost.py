"""A crawler whose link was lost is dead unless it has another soon; while nobody knows, it gets no jobs."""

import pytest
from ulid import ULID

from support.worlds.links import attach, link, lose, row
from support.worlds.world import Crawler, World


@pytest.fixture
def lost(world: World) -> str:
    """The id of a connection with a job, whose link was lost."""
    id_ = str(ULID())
    world.submit(world.order(), world.order())
    attach(world, link(id_, 1, capacity=1))
    world.assign()
    lose(world, id_, 1)
    return id_


def pass_time(world: World, seconds: float) -> None:
    """Let the loss be this old; heartbeats go on."""
    world.rows(
        "UPDATE socket_connection SET lost_at = lost_at - make_interval(secs => :s)"
        " WHERE lost_at IS NOT NULL",
        s=seconds,
    )


def start_all(world: World, id_: str) -> None:
    """Let the crawler start what it was given."""
    crawler = Crawler(world, id_)
    for fence in crawler.orders():
        crawler.sends("job_started", fence)


def test_no_job_is_assigned_to_it(world: World, lost: str) -> None:
    """Its free slots do not count."""
    world.rows("UPDATE socket_connection SET capacity = 5 WHERE id = :id", id=lost)

    world.assign()

    assert len(row(world, lost).active_jobs) == 1


def test_its_jobs_are_requeued_after_the_window(world: World, lost: str) -> None:
    """Long before the timeout, and as a loss: the job may be what killed its crawler."""
    start_all(world, lost)
    pass_time(world, 14)
    world.sweep()
    assert row(world, lost).is_active
    assert world.events("connection_lost") == []

    pass_time(world, 2)
    world.sweep()

    assert not row(world, lost).is_active
    assert [e.payload for e in world.events("connection_lost")] == [{"goodbye": False}]
    assert world.rows("SELECT status, losses FROM job_queue WHERE losses > 0") == [("pending", 1)]


def test_a_job_that_its_crawler_never_had_has_lost_nobody(world: World, lost: str) -> None:
    """It counts as a disconnect, which is bounded, too: a crawler whose links flap costs no job a loss."""
    pass_time(world, 60)
    world.sweep()

    assert not row(world, lost).is_active
    assert world.rows("SELECT status, losses, goodbyes FROM job_queue WHERE goodbyes > 0") == [
        ("pending", 0, 1)
    ]
    assert world.rows("SELECT error_type FROM job_error_log") == [("ConnectionLost",)]


@pytest.mark.parametrize("has_it", ["listed", "started"])
def test_a_job_that_its_crawler_had_may_be_what_killed_it(world: World, lost: str, has_it: str) -> None:
    """It is counted, as where a connection falls silent."""
    crawler = Crawler(world, lost)
    if has_it == "listed":
        crawler.sends("heartbeat", activeJobs=crawler.orders())
    else:
        start_all(world, lost)
    pass_time(world, 60)
    world.sweep()

    assert world.rows("SELECT losses, goodbyes FROM job_queue WHERE losses + goodbyes > 0") == [(1, 0)]


def test_a_job_of_a_silent_connection_is_counted_whoever_had_it(world: World) -> None:
    """Nobody says that its link was lost: its gateway may know nothing of links."""
    id_ = str(ULID())
    world.submit(world.order())
    attach(world, link(id_, 1, capacity=1))
    world.assign()
    Crawler(world, id_).silent_for(3600)

    world.sweep()

    assert world.rows("SELECT losses, goodbyes FROM job_queue") == [(1, 0)]


def test_a_new_link_saves_it(world: World, lost: str) -> None:
    """The attempt goes on under the same fence, and nothing is counted."""
    before = row(world, lost).active_jobs
    pass_time(world, 60)
    attach(world, link(lost, 2, capacity=1))

    world.sweep()

    assert row(world, lost).active_jobs == before
    assert world.scalar("SELECT sum(losses) FROM job_queue") == 0


def test_a_lost_link_of_before_marks_nothing(world: World) -> None:
    """Only the link that the row names."""
    id_ = str(ULID())
    attach(world, link(id_, 2))

    lose(world, id_, 1)
    lose(world, id_, 2, "another")

    assert row(world, id_).lost_at is None


def test_a_heartbeat_over_an_older_link_clears_no_mark(world: World, lost: str) -> None:
    """It may have been sent before the loss."""
    world.deliver("connections.heartbeat", beats=[{"connection_id": lost}])

    assert row(world, lost).lost_at is not None


def test_a_second_loss_does_not_prolong_the_first(world: World, lost: str) -> None:
    """Two gateways, or one twice, report it."""
    pass_time(world, 10)
    before = row(world, lost).lost_at

    lose(world, lost, 1)

    assert row(world, lost).lost_at == before


def test_most_of_a_fleet_lost_at_once_is_not_closed(world: World) -> None:
    """They were behind one gateway: they get a grace, although all have sent heartbeats just now."""
    ids = [str(ULID()) for _ in range(20)]
    attach(world, *(link(id_, 1) for id_ in ids))
    for id_ in ids[:12]:
        lose(world, id_, 1)
    pass_time(world, 60)

    world.sweep()

    assert world.scalar("SELECT count(*) FROM socket_connection WHERE is_active") == 20


def test_most_of_one_gateways_crawlers_lost_at_once_are_not_closed(world: World) -> None:
    """However many crawlers other gateways have."""
    east, west = ([str(ULID()) for _ in range(number)] for number in (10, 30))
    attach(world, *(link(id_, 1) for id_ in east), *(link(id_, 1, gateway="west") for id_ in west))
    for id_ in east[:6]:
        lose(world, id_, 1)
    pass_time(world, 60)

    world.sweep()

    assert world.scalar("SELECT count(*) FROM socket_connection WHERE is_active") == 40


def test_a_few_lost_of_a_large_fleet_are_closed(world: World) -> None:
    """They are dead each for itself."""
    ids = [str(ULID()) for _ in range(20)]
    attach(world, *(link(id_, 1) for id_ in ids))
    for id_ in ids[:8]:
        lose(world, id_, 1)
    pass_time(world, 60)

    world.sweep()

    assert world.scalar("SELECT count(*) FROM socket_connection WHERE is_active") == 12
