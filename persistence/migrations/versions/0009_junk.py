"""
Lets the refused items of a message be stored after its frames were applied.

A message is applied, and later done. A refused item has a row of fixed size, whose payload follows.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

MESSAGES = """
    ALTER TABLE handled_message ADD COLUMN applied BOOLEAN DEFAULT true NOT NULL,
        ADD COLUMN done BOOLEAN DEFAULT true NOT NULL;
"""

REJECTED = """
    ALTER TABLE rejected_message ADD COLUMN digest TEXT,
        ADD COLUMN sent_bytes INTEGER,
        ADD COLUMN sampled_out BOOLEAN DEFAULT false NOT NULL;
"""


def upgrade() -> None:
    op.execute(MESSAGES)
    op.execute(REJECTED)
