"""The mapped tables: the web app's in `shared`, ours in `dispatch`, the words in `vocabulary`."""

from persistence.schema import dispatch, shared
from persistence.schema.base import Base

__all__ = ["Base", "dispatch", "shared"]
