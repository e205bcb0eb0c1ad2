"""What Alembic compares; `env` and `run` share it."""

from typing import Any

from persistence.schema import Base

VERSION_TABLE = "crawlyard_version"
"""Not Alembic's default name, which the web app's own migrations may use."""


def is_known(_object: Any, name: str | None, type_: str, reflected: bool, _compare_to: Any) -> bool:  # noqa: FBT001
    """Leave tables out of the comparison that only the web app knows."""
    return not (type_ == "table" and reflected and name not in Base.metadata.tables)
