"""
Bounds what one crawler takes.

Each connection stores the capacity that its crawler asked for, if that was too much, and how many attempts it ended.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

CONNECTIONS = """
    ALTER TABLE socket_connection ADD COLUMN asked_capacity INTEGER,
        ADD COLUMN ends_from TIMESTAMP WITH TIME ZONE,
        ADD COLUMN ends INTEGER DEFAULT 0 NOT NULL,
        ADD COLUMN implausible_at TIMESTAMP WITH TIME ZONE;
"""


def upgrade() -> None:
    op.execute(CONNECTIONS)
