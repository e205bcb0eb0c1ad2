"""Lets gateways say over which link a crawler is reached, and that one was lost."""

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


def upgrade() -> None:
    op.execute(COLUMNS)
