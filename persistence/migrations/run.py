"""
Migrates a database to the newest schema, and tells which revision it has.

A migration is one transaction under an advisory lock: two at once are harmless, and a failed one changes nothing.
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
from persistence.db.session import statement_limit
from persistence.db.sqlstate import translate_errors
from persistence.exceptions import Contended, IllegalRequestError
from persistence.migrations.placement import require_placement
from persistence.migrations.scope import VERSION_TABLE, is_known
from persistence.migrations.web_app.rules import OLDER_TIMES
from persistence.migrations.web_app.tables import require_usable
from persistence.schema import Base

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('crawlyard_migrate'))"

_BINDS_ACCOUNTS = "0006"
"""The revision that binds accounts to their GitLabs."""

_WAIT_FOR_PEER = "SET LOCAL lock_timeout = 0"
"""Another migration may take long, and holds no lock that the web app needs while we wait for it."""

_GIVE_WAY = "SET LOCAL lock_timeout = '3s'"
"""Our foreign keys need a lock on `job`. While we wait for it, the web app's writes queue up behind us."""


@dataclass(frozen=True)
class Migrated:
    """The revisions before and after a migration."""

    before: str | None
    after: str

    @property
    def has_bound_accounts(self) -> bool:
        """True if this migration has bound the accounts whose jobs all name one GitLab."""
        return (self.before or "") < _BINDS_ACCOUNTS <= self.after


def migrate(on: Engine | None = None) -> Migrated:
    """
    Create or upgrade the tables; does nothing if they are up to date.

    Waits for another migration, but only 3 s for the web app's transactions. Raises Contended if these take longer,
    and IllegalRequestError if the web app's tables are not usable or a newer Crawlyard migrated the database.
    """
    try:
        unlimited = (on or engine()).execution_options(**statement_limit(None))
        with translate_errors(), unlimited.begin() as connection:
            connection.execute(text(_WAIT_FOR_PEER))
            connection.execute(text(_LOCK))
            connection.execute(text(_GIVE_WAY))
            before = current_revision(connection)
            found = require_placement(connection, is_new=before is None)
            require_usable(connection, older=found & OLDER_TIMES.keys() if before is None else frozenset())
            command.upgrade(_config(connection), "head")
            return Migrated(before, head_revision())
    except CommandError:
        # The only command error possible here is an unknown revision.
        raise IllegalRequestError("A newer Crawlyard migrated the database. Run that version.") from None
    except Contended as error:
        raise Contended(
            f"Nothing was migrated: another transaction was in the way, {error}. Migrate again at a quieter time."
        ) from error


def current_revision(connection: Connection) -> str | None:
    """The revision of the database; None if it was never migrated."""
    return _context(connection).get_current_revision()


def head_revision() -> str:
    """The newest revision of this version."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def differences(connection: Connection) -> list[object]:
    """The differences between the mappings and the database; empty if they agree."""
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
