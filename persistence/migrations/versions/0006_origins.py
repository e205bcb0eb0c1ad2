"""
Binds each account to the origin of its GitLab, so that its token goes nowhere else.

Accounts whose jobs all name one GitLab are bound to it. `crawlyard accounts list --unbound` shows the others.
"""

from collections import defaultdict

import sqlalchemy as sa
from alembic import op

from persistence.migrations.views import create_view
from persistence.origin import origin_of

revision = "0006"
down_revision = "0005"

TABLE = """
    CREATE TABLE account_origin (
        account_id TEXT NOT NULL,
        origin TEXT NOT NULL,
        bound_by TEXT NOT NULL,
        bound_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT account_origin_pkey PRIMARY KEY (account_id)
    );
    CREATE INDEX account_origin_origin_idx ON account_origin (origin, account_id);
"""

URLS = """
    SELECT DISTINCT "accountId", "gitlabGraphQLUrl" FROM job
     WHERE "accountId" IS NOT NULL AND "gitlabGraphQLUrl" IS NOT NULL
"""

BIND = """
    INSERT INTO account_origin (account_id, origin, bound_by)
    SELECT account_id, origin, 'migration' FROM unnest(CAST(:ids AS text[]), CAST(:origins AS text[]))
           AS agreed(account_id, origin)
"""

COLUMNS = """
    ALTER TABLE job_queue ADD COLUMN hold_reason TEXT, ADD COLUMN hold_url TEXT, ADD COLUMN hold_origin TEXT;
    CREATE INDEX job_queue_hold_idx ON job_queue (account_id, id) WHERE hold_reason IS NOT NULL;
    ALTER TABLE job_assignment_mapping ADD COLUMN gitlab_url TEXT;
"""


def upgrade() -> None:
    op.execute(TABLE)
    _bind()  # before our tables are locked: it reads all jobs
    op.execute(COLUMNS)
    create_view("crawler_order", revision)


def _bind() -> None:
    """Bind the accounts whose jobs all agree, also those of http."""
    origins = defaultdict(set)
    for account_id, url in op.get_bind().execute(sa.text(URLS)):
        origins[account_id].add(origin_of(url))
    agreed = {id_: found.pop() for id_, found in origins.items() if len(found) == 1 and None not in found}
    if agreed:
        values = {"ids": list(agreed), "origins": list(agreed.values())}
        op.get_bind().execute(sa.text(BIND), values)
