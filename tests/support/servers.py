"""Servers that run already and serve many test sessions, one after another; and their migrated database."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

VARIABLE = "CRAWLYARD_TEST_SERVERS"
"""The URLs of such servers, as JSON: tests/mutants sets it, where starting them would be most of the work."""

_MIGRATIONS = Path(__file__).parents[2] / "persistence" / "migrations" / "versions"


@dataclass(frozen=True)
class Given:
    """PostgreSQL and Valkey, for the tests that want no more of them than a URL."""

    database_url: str
    broker_url: str

    def environment(self) -> dict[str, str]:
        """The two variables that Crawlyard's settings want."""
        return {"DATABASE_URL": self.database_url, "BROKER_URL": self.broker_url}


def given() -> Given | None:
    """The servers of the environment, if there are any."""
    urls = os.environ.get(VARIABLE)
    return None if urls is None else Given(**json.loads(urls))


def copy_migrated(admin: psycopg.Connection, name: str, migrate: Callable[[str], None]) -> None:
    """Make the database *name* anew, as a copy of one that was migrated by the same migrations."""
    digest = sha256(b"".join(file.read_bytes() for file in sorted(_MIGRATIONS.glob("*.py")))).hexdigest()
    template = f"migrated_{digest[:16]}"
    if not admin.execute("SELECT FROM pg_database WHERE datname = %s", [template]).rowcount:
        admin.execute(SQL("DROP DATABASE IF EXISTS migrating WITH (FORCE)"))
        admin.execute(SQL("CREATE DATABASE migrating"))
        migrate("migrating")
        admin.execute(SQL("ALTER DATABASE migrating RENAME TO {}").format(Identifier(template)))
    admin.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
    admin.execute(
        SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)),
    )
