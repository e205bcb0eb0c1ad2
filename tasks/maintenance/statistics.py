"""The task `upkeep.take_statistics`: stores the counts that are too expensive to compute for every reader."""

import structlog

from persistence.exceptions import Contended
from persistence.settings import settings
from tasks.contract.payloads import TakeStatistics
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()


@task(name="upkeep.take_statistics", accepts=TakeStatistics)
def take_statistics(_: TakeStatistics) -> None:
    """
    Count everything anew and replace the previous counts.

    Two counts never run at once: the second waits for the row of `intervals.acquire`. A run that does not get the row
    in time, or counts for longer than half an interval, gives up until the next message. If it were retried at once,
    a slow count would occupy a worker for ever.
    """
    pause = settings().statistics_interval / 2
    try:
        with unit_of_work() as uow:
            if uow.intervals.acquire("upkeep.take_statistics", settings().statistics_interval):
                uow.statistics.take(min(pause, settings().statement_timeout))
            uow.commit()
    except Contended as error:
        log.warning("statistics_not_taken", why=str(error))
