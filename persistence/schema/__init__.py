"""The schema: the web app's tables in `web_app`, ours in `tables`; states, ids and commands."""

from persistence.schema import tables, web_app
from persistence.schema.base import Base

__all__ = ["Base", "tables", "web_app"]
