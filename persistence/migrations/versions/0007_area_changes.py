"""Lets a change of an area be proposed, and orders of children keep the id that was found for them."""

from alembic import op

from persistence.migrations.views import create_view

revision = "0007"
down_revision = "0006"

PROPOSALS = """
    ALTER TABLE area_change
        ADD COLUMN status TEXT DEFAULT 'applied' NOT NULL,
        ADD COLUMN name TEXT,
        ADD COLUMN type TEXT,
        ADD COLUMN graphql_url TEXT,
        ADD COLUMN crawler_credential TEXT,
        ADD COLUMN decided_at TIMESTAMP WITH TIME ZONE;
    CREATE INDEX area_change_gitlab_id_idx ON area_change (gitlab_id);
    CREATE UNIQUE INDEX area_change_proposed_key ON area_change (gitlab_id, full_path, account_id)
     WHERE status = 'proposed';
"""


def upgrade() -> None:
    op.execute(PROPOSALS)
    create_view("crawler_order", revision)
