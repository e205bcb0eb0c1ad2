"""What upkeep counted last, as it is kept in the table `statistic`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

_READ = text("SELECT name, value, taken_at, now() - taken_at AS age FROM statistic")


@dataclass(frozen=True)
class QueueDepth:
    """How many stand somewhere, and for how long the one that came first."""

    entries: int
    oldest: timedelta | None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> "QueueDepth":
        """From a statistic; the time is in seconds."""
        return cls(value["entries"], timedelta(seconds=value["oldest"]))


@dataclass(frozen=True)
class BusyAccount:
    """An account that has work, and how many of its entries are in each state."""

    account_id: str
    entries: Mapping[str, int]


@dataclass(frozen=True)
class Throughput:
    """What was done in so many seconds up to the counting."""

    seconds: float
    jobs_finished: int
    jobs_failed: int
    jobs_cancelled: int
    attempts_begun: int
    attempts_ended: int


@dataclass(frozen=True)
class CountedStatistics:
    """All that was counted at one moment."""

    taken_at: datetime
    age: timedelta
    jobs: Mapping[str, Mapping[str, int]]
    """By command, then by status."""
    queue: Mapping[str, QueueDepth]
    """By state: ready, backed_off, held, processing, completed, failed; deferred is outside of the queue."""
    accounts: int
    """How many accounts have an entry or a deferred job."""
    accounts_with_work: int
    """Of how many something is not settled."""
    busiest_accounts: list[BusyAccount]
    """The first of them, by what is not settled."""
    areas: Mapping[str, int]
    authorizations: int
    throughput: Throughput


def read_counted_statistics(connection: Connection) -> CountedStatistics | None:
    """What was counted last; None where nothing was, or by another version."""
    rows = {row.name: row for row in connection.execute(_READ)}
    if not rows.keys() >= {"jobs", "queue", "accounts", "areas", "authorizations", "throughput"}:
        return None
    accounts = rows["accounts"].value
    return CountedStatistics(
        taken_at=rows["jobs"].taken_at,
        age=rows["jobs"].age,
        jobs=rows["jobs"].value,
        queue={state: QueueDepth.read(depth) for state, depth in rows["queue"].value.items()},
        accounts=accounts["accounts"],
        accounts_with_work=accounts["with_work"],
        busiest_accounts=[BusyAccount(**account) for account in accounts["busiest"]],
        areas=rows["areas"].value,
        authorizations=rows["authorizations"].value,
        throughput=Throughput(**rows["throughput"].value),
    )
