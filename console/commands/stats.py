"""`crawlyard stats`: prints the counts that the maintenance task stored last, and what is cheap to count now."""

from console.output import screen
from console.output.exit_codes import FAILED_CHECK
from console.views import statistics as view
from persistence.reports.statistics import read_account_statistics, read_statistics
from persistence.settings import settings


def show_statistics(*, account_id: str | None, as_json: bool) -> int:
    """Print all statistics, or those of one account, and return the exit code: 1 if nothing was counted yet."""
    settings()
    if account_id is not None:
        account = read_account_statistics(account_id)
        screen.print_json(account) if as_json else screen.console().print(view.render_account(account))
        return 0
    statistics = read_statistics()
    screen.print_json(statistics) if as_json else screen.console().print(view.render(statistics))
    return 0 if statistics.counts else FAILED_CHECK
