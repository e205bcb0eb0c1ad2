"""Units of work that a command of an operator runs itself, one after another."""

from collections.abc import Callable

from celery.exceptions import Reject

from persistence import unit_of_work as persistence_unit
from persistence.exceptions import Contended
from persistence.unit_of_work import UnitOfWork
from tasks.runtime.retry import run_until_done


def command_unit() -> UnitOfWork:
    """Begin a unit that publishes nothing: a command may run without a broker, and beat finds what there is to do."""
    return persistence_unit.unit_of_work(lambda _task, _arguments: None)


def run_unit(change: Callable[[UnitOfWork], None]) -> None:
    """Run one unit until it is committed. Raises Contended if other transactions are in the way for too long."""

    def unit() -> None:
        with command_unit() as uow:
            change(uow)
            uow.commit()

    try:
        run_until_done(unit)
    except Reject as error:
        raise Contended(
            f"{error.reason}. Run the command again at a quieter time: it goes on where it was."
        ) from None
