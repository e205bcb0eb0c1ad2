"""How changes of areas look on a terminal."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from console.output.layout import moment, rows_of_two
from console.output.screen import plain
from persistence.reports.area_changes import AreaChangeRow


def render_changes(changes: Sequence[AreaChangeRow]) -> RenderableType:
    """Two lines per change."""
    return rows_of_two("when (UTC), id", "status, area, account", (_row(change) for change in changes))


def _row(change: AreaChangeRow) -> tuple[Text, Text, Text, Text]:
    what = [f"  {plain(change.gitlab_id)} at {plain(change.full_path)}"]
    if change.former_path:
        what.append(f", known at {plain(change.former_path)}")
    if change.former_gitlab_id:
        what.append(f", which is known as {plain(change.former_gitlab_id)}")
    return (
        Text(moment(change.changed_at)),
        Text.assemble((plain(change.status), "yellow"), "".join(what)),
        Text(plain(change.id), style="dim"),
        Text(f"found for account {plain(change.account_id)} by job {plain(change.job_id)}", style="dim"),
    )
