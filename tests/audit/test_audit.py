"""The audit: a world in which all went well is clean, and every corruption is named."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine, text

from persistence.audit.audit import CHECKS, audit
from support.worlds.corruptions import CORRUPTIONS


@pytest.fixture
def busy(busy_database: str) -> Iterator[Connection]:
    """A transaction, rolled back, in a database in which everything has happened, and whose crawlers are alive."""
    url = busy_database.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url)
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(text("UPDATE socket_connection SET last_heartbeat = now() WHERE is_active"))
        connection.execute(
            text("UPDATE job_assignment_mapping SET progressed_at = now() WHERE completed_at IS NULL")
        )
        yield connection
        transaction.rollback()
    engine.dispose()


@pytest.mark.parametrize("at_rest", [False, True])
def test_a_busy_system_has_no_faults(busy: Connection, *, at_rest: bool) -> None:
    """Jobs that wait, are worked on, failed, were lost, revoked, paused or ordered again break no invariant."""
    assert [str(fault) for fault in audit(busy, at_rest=at_rest)] == []

    statuses = set(busy.scalars(text("SELECT DISTINCT status FROM job")))
    assert statuses == {
        "queued", "running", "paused", "failed", "finished", "cancelled", "waiting_credential_renewal"
    }  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_every_corruption_is_reported(busy: Connection, name: str) -> None:
    """By its own check, with the id of its victim, and by no check but those that it breaks as well."""
    corruption = CORRUPTIONS[name]
    victims = [str(id_) for id_ in busy.scalars(text(corruption.victims))]
    for statement in corruption.statements:
        busy.exec_driver_sql(statement.format(victim=victims[0]))

    found = {fault.name: fault for fault in audit(busy, at_rest=True)}

    assert found.keys() == {name} | corruption.also
    assert (found[name].ids, found[name].count) == (victims, len(victims))
    assert found[name].meaning == CHECKS[name].meaning


def test_every_corruption_belongs_to_an_existing_check() -> None:
    """What is broken here is looked for there."""
    assert CORRUPTIONS.keys() == CHECKS.keys()
