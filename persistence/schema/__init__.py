"""The mapped tables: the web app's in `web_app`, ours in `tables`; states, ids and commands beside them."""

from persistence.schema import tables, web_app
from persistence.schema.base import Base

__all__ = ["Base", "tables", "web_app"]
