"""Counts the rejected messages of each connection, so that their number and size can be bounded."""

from alembic import op

revision = "0004"
down_revision = "0003"

REJECTED = """
    ALTER TABLE rejected_message ADD COLUMN connection_id TEXT, ADD COLUMN bytes INTEGER;

    CREATE TABLE rejected_count (
        connection_id TEXT COLLATE "C" NOT NULL,
        rows INTEGER DEFAULT 0 NOT NULL,
        bytes BIGINT DEFAULT 0 NOT NULL,
        dropped BIGINT DEFAULT 0 NOT NULL,
        dropped_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT rejected_count_pkey PRIMARY KEY (connection_id)
    );
"""


def upgrade() -> None:
    op.execute(REJECTED)
