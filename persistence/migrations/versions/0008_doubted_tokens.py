"""
Lets tokens be doubted before their accounts are blocked.

Each account stores since when its token is in doubt and since when one job at a time probes it; each connection, how
many accounts it brought into doubt within an hour.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

COLUMNS = """
    ALTER TABLE account_lane ADD COLUMN doubted_at TIMESTAMP WITH TIME ZONE,
        ADD COLUMN probing_at TIMESTAMP WITH TIME ZONE;
    ALTER TABLE socket_connection ADD COLUMN doubts_from TIMESTAMP WITH TIME ZONE,
        ADD COLUMN doubts INTEGER DEFAULT 0 NOT NULL;
"""


def upgrade() -> None:
    op.execute(COLUMNS)
