"""
Lets a job be announced as held once for each reason, and tells whose crawler is behind a connection.

The credential of a crawler is filled in by a gateway; NULL while crawlers have none.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

COLUMNS = """
    ALTER TABLE job_queue ADD COLUMN hold_announced TEXT;
    ALTER TABLE socket_connection ADD COLUMN crawler_credential TEXT;
"""


def upgrade() -> None:
    op.execute(COLUMNS)
