"""Views, each stated once in `persistence/schema/views/`, and created by the newest revision that changes it."""

from importlib.resources import files

from alembic import op


def create_view(name: str, revision: str) -> None:
    """
    Create or replace a view of ours, if its file is of this *revision*.

    The first line of the file names the revision. A migration that changes the view changes the file, and this
    line; the older migrations then leave the view to it, since their tables may lack what the new one reads.
    """
    sql = files("persistence.schema").joinpath("views", f"{name}.sql").read_text("utf-8")
    if sql.startswith(f"-- Revision {revision}."):
        op.execute(sql)
