"""What Alembic is told of our tables, by `env` and by `run` alike."""

from typing import Any

from persistence.schema import Base

VERSION_TABLE = "crawlyard_version"
"""The web app's own tool may use Alembic's usual name."""


def is_known(_object: Any, name: str | None, type_: str, reflected: bool, _compare_to: Any) -> bool:  # noqa: FBT001
    """Leave the web app's other tables out of the comparison."""
    return not (type_ == "table" and reflected and name not in Base.metadata.tables)
