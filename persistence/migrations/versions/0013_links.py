"""Lets gateways say over which link a crawler is reached, and that one was lost; and crawlers have secrets."""

from alembic import op

revision = "0013"
down_revision = "0012"

COLUMNS = """
    ALTER TABLE socket_connection
        ADD COLUMN link TEXT,
        ADD COLUMN incarnation BIGINT,
        ADD COLUMN gateway TEXT,
        ADD COLUMN lost_at TIMESTAMP WITH TIME ZONE,
        ADD COLUMN session_hash TEXT;
"""

TABLE = """
    CREATE TABLE crawler_credential (
        id TEXT COLLATE "C" NOT NULL,
        name TEXT NOT NULL,
        secret_hash TEXT NOT NULL,
        former_hash TEXT,
        former_valid_until TIMESTAMP WITH TIME ZONE,
        capacity INTEGER,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        rotated_at TIMESTAMP WITH TIME ZONE,
        last_used_at TIMESTAMP WITH TIME ZONE,
        revoked_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT crawler_credential_pkey PRIMARY KEY (id),
        CONSTRAINT crawler_credential_name_key UNIQUE (name),
        CONSTRAINT crawler_credential_secret_hash_key UNIQUE (secret_hash)
    );
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(TABLE)
