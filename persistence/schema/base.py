"""The declarative base of all tables: column types and the naming of constraints."""

from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import DateTime, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import UserDefinedType


class Xid8(UserDefinedType[int]):
    """A transaction id that never wraps around."""

    cache_ok = True

    def get_col_spec(self, **_kwargs: Any) -> str:
        """The type's name in SQL."""
        return "xid8"


ischema_names["xid8"] = Xid8  # unknown to SQLAlchemy: reflection would warn and drop the type

Ulid = Annotated[str, "26 characters, made by us or by a gateway; sorted and compared bytewise"]
Json = Annotated[Any, "jsonb"]


class Base(DeclarativeBase):
    """The registry of all tables, the web app's included."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_name)s_key",
            "ix": "%(table_name)s_%(column_0_name)s_idx",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: Text,
        datetime: DateTime(timezone=True),
        Ulid: Text(collation="C"),
        Json: JSONB,
    }
