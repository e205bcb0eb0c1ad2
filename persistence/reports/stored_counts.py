"""Reads the counts that `upkeep.take_statistics` stored in the table `statistic`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

_READ = text("SELECT name, value, taken_at, now() - taken_at AS age FROM statistic")


@dataclass(frozen=True)
class QueueDepth:
    """The number of entries in a state, and how long the oldest has been in it."""

    entries: int
    oldest: timedelta | None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> "QueueDepth":
        """Parse a stored value, whose time is in seconds."""
        return cls(value["entries"], timedelta(seconds=value["oldest"]))


@dataclass(frozen=True)
class BusyAccount:
    """An account with unsettled entries, and the number of its entries by state."""

    account_id: str
    entries: Mapping[str, int]


@dataclass(frozen=True)
class Throughput:
    """What was done in the last seconds before the count."""

    seconds: float
    jobs_finished: int
    jobs_failed: int
    jobs_cancelled: int
    attempts_begun: int
    attempts_ended: int


@dataclass(frozen=True)
class CountedStatistics:
    """All counts of one moment."""

    taken_at: datetime
    age: timedelta
    jobs: Mapping[str, Mapping[str, int]]
    """By command, then by status."""
    queue: Mapping[str, QueueDepth]
    """By state: ready, backed_off, held, processing, completed, failed; deferred jobs are outside of the queue."""
    accounts: int
    """The number of accounts with an entry or a deferred job."""
    accounts_with_work: int
    """The number of accounts with unsettled entries."""
    busiest_accounts: list[BusyAccount]
    """The accounts with the most unsettled entries."""
    areas: Mapping[str, int]
    authorizations: int
    throughput: Throughput


def read_counted_statistics(connection: Connection) -> CountedStatistics | None:
    """The last counts; None if there are none, or another version of Crawlyard took them."""
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
