"""Servers that already run and serve many test sessions in turn, and their migrated database."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

VARIABLE = "CRAWLYARD_TEST_SERVERS"
"""Names the URLs of such servers, as JSON. tests/proofs/mutants sets it, because starting servers would dominate."""

_MIGRATIONS = Path(__file__).parents[2] / "persistence" / "migrations" / "versions"


@dataclass(frozen=True)
class Given:
    """PostgreSQL and Valkey, for tests that need only their URLs."""

    database_url: str
    broker_url: str

    def environment(self) -> dict[str, str]:
        """The two variables that Crawlyard's settings require."""
        return {"DATABASE_URL": self.database_url, "BROKER_URL": self.broker_url}


def given() -> Given | None:
    """The servers that the environment names, if any."""
    urls = os.environ.get(VARIABLE)
    return None if urls is None else Given(**json.loads(urls))


def copy_migrated(admin: psycopg.Connection, name: str, migrate: Callable[[str], None]) -> None:
    """Create the database *name* again, as a copy of one that the same migrations created."""
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
