"""
Finds paths whatever their case: notes the spellings with capitals.

Duplicates of before are joined by `crawlyard migrate` when this is done, in transactions of their own.
"""

from alembic import op

from persistence.migrations.views import create_view

revision = "0011"
down_revision = "0010"

TABLE = """
    CREATE TABLE path_spelling (
        path_key TEXT NOT NULL,
        full_path TEXT NOT NULL,
        noted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT path_spelling_pkey PRIMARY KEY (path_key, full_path)
    );
"""

SPELLINGS = """
    INSERT INTO path_spelling (path_key, full_path)
    SELECT lower(full_path COLLATE "C"), full_path FROM (
        SELECT full_path FROM job UNION SELECT full_path FROM area UNION SELECT full_path FROM deferred_job) known
     WHERE full_path <> lower(full_path COLLATE "C");
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(SPELLINGS)
    create_view("crawler_order", revision)
