"""The audit finds no fault in a healthy database, and reports every corruption."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine, text

from persistence.audit.audit import CHECKS, audit
from support.worlds.corruptions import CORRUPTIONS


@pytest.fixture
def busy(busy_database: str) -> Iterator[Connection]:
    """A transaction, rolled back at the end, in a database with jobs in every state and live crawlers."""
    url = busy_database.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url)
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(text("UPDATE socket_connection SET last_heartbeat = now() WHERE is_active"))
        connection.execute(
            text("UPDATE job_assignment_mapping SET progressed_at = now() WHERE completed_at IS NULL")
        )
        connection.execute(text("UPDATE account_lane SET held_at = now() WHERE held_at IS NOT NULL"))
        yield connection
        transaction.rollback()
    engine.dispose()


@pytest.mark.parametrize("at_rest", [False, True])
def test_a_busy_system_has_no_faults(busy: Connection, *, at_rest: bool) -> None:
    """Jobs that wait, run, failed, were lost, revoked, paused or submitted again break no invariant."""
    assert [str(fault) for fault in audit(busy, at_rest=at_rest)] == []

    statuses = set(busy.scalars(text("SELECT DISTINCT status FROM job")))
    assert statuses == {
        "queued", "running", "paused", "failed", "finished", "cancelled", "waiting_credential_renewal"
    }  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_every_corruption_is_reported(busy: Connection, name: str) -> None:
    """Its own check reports it with the ids affected, and no other check does but those that it also breaks."""
    corruption = CORRUPTIONS[name]
    victims = [str(id_) for id_ in busy.scalars(text(corruption.victims))]
    for statement in corruption.statements:
        busy.exec_driver_sql(statement.format(victim=victims[0]))

    found = {fault.name: fault for fault in audit(busy, at_rest=True)}

    assert found.keys() == {name} | corruption.also
    assert (found[name].ids, found[name].count) == (victims, len(victims))
    assert found[name].meaning == CHECKS[name].meaning


def test_every_corruption_belongs_to_an_existing_check() -> None:
    """Each check has a corruption that it must find, and each corruption has its check."""
    assert CORRUPTIONS.keys() == CHECKS.keys()
