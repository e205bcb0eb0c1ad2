"""
Brings a database to the newest schema, and says where it stands.

One transaction under one advisory lock: two at once are harmless, and one that fails leaves
nothing behind.
"""

from dataclasses import dataclass

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

from persistence.db.engine import engine
from persistence.db.sqlstate import translate_errors
from persistence.exceptions import Contended, IllegalRequestError
from persistence.migrations.scope import VERSION_TABLE, is_known
from persistence.schema import Base

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('crawlyard_migrate'))"

_GIVE_WAY = "SET LOCAL lock_timeout = '3s'"
"""Our foreign keys want a lock on `job`, and while we wait for it the web app's writes wait behind us."""


@dataclass(frozen=True)
class Migrated:
    """What a migration did."""

    before: str | None
    after: str


def migrate(on: Engine | None = None) -> Migrated:
    """
    Create or upgrade the tables; where they are at head already, nothing happens.

    Waits for another migration, and for the web app's transactions a moment only. Raises Contended
    where they last longer, IllegalRequestError where the web app's tables are not what we can work with.
    """
    try:
        with translate_errors(), (on or engine()).begin() as connection:
            connection.execute(text(_LOCK))
            connection.execute(text(_GIVE_WAY))
            before = current_revision(connection)
            command.upgrade(_config(connection), "head")
            return Migrated(before, head_revision())
    except CommandError:
        # All that Alembic can complain of here is a revision that it does not know.
        raise IllegalRequestError("The database was migrated by a newer Crawlyard, which it needs.") from None
    except Contended as error:
        raise Contended(
            f"Nothing was migrated: a transaction was in the way, {error}. Migrate again, when less is going on."
        ) from error


def current_revision(connection: Connection) -> str | None:
    """The revision that the database is at; None where it was never migrated."""
    return _context(connection).get_current_revision()


def head_revision() -> str:
    """The newest revision that this version knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def differences(connection: Connection) -> list[object]:
    """What the mappings say and the database does not; empty where they agree."""
    return list(compare_metadata(_context(connection), Base.metadata))


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "persistence:migrations")
    config.attributes["connection"] = connection
    return config


def _context(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(
        connection,
        opts={"version_table": VERSION_TABLE, "include_object": is_known, "target_metadata": Base.metadata},
    )
