"""Statistics: `upkeep.take_statistics` counts what is too dear to be counted by everybody who looks."""

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
    Count everything anew; what was counted before is replaced.

    Two at a time there never are: the second waits for the row that lets it through. Who waits for it
    in vain, or counts for longer than half of the time, gives up until the next ring: run again at
    once, a count that takes too long would keep a worker at nothing else.
    """
    pause = settings().statistics_interval / 2
    try:
        with unit_of_work() as uow:
            if uow.intervals.acquire("upkeep.take_statistics", settings().statistics_interval):
                uow.statistics.take(min(pause, settings().statement_timeout))
            uow.commit()
    except Contended as error:
        log.warning("statistics_not_taken", why=str(error))
