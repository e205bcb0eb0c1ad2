"""Keeps when a crawler said its capacity and its list of jobs: an older word that comes late replaces none."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE socket_connection
            ADD COLUMN capacity_said_at TIMESTAMP WITH TIME ZONE,
            ADD COLUMN reported_said_at TIMESTAMP WITH TIME ZONE
    """)
