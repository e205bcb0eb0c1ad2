"""
Gives a GitLab one name, whatever the spelling of its URL, which it keeps when it moves.

`gitlab_spelling` has the hosts of URLs in which they do not stand as they are compared, `gitlab_alias` the origins of
GitLabs that moved. `crawler_order` reads the URL of a job with its path prefix, for attempts of workers of 0.4.1.
"""

import sqlalchemy as sa
from alembic import op

from persistence.migrations.views import create_view
from persistence.schema.gitlabs import host_of, needs_note

revision = "0012"
down_revision = "0011"

TABLES = """
    CREATE TABLE gitlab_spelling (
        url TEXT NOT NULL,
        host TEXT NOT NULL,
        CONSTRAINT gitlab_spelling_pkey PRIMARY KEY (url)
    );
    CREATE TABLE gitlab_alias (
        origin TEXT NOT NULL,
        moved_to TEXT NOT NULL,
        moved_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        carried_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT gitlab_alias_pkey PRIMARY KEY (origin),
        CONSTRAINT gitlab_alias_moved CHECK (origin <> moved_to)
    );
"""

URLS = 'SELECT DISTINCT "gitlabGraphQLUrl" FROM job WHERE "gitlabGraphQLUrl" IS NOT NULL'

NOTE = "INSERT INTO gitlab_spelling (url, host) SELECT unnest(CAST(:urls AS text[])), unnest(CAST(:hosts AS text[]))"


def upgrade() -> None:
    op.execute(TABLES)
    connection = op.get_bind()
    spelled = [url for url in connection.scalars(sa.text(URLS)) if needs_note(url)]
    if spelled:
        connection.execute(sa.text(NOTE), {"urls": spelled, "hosts": [host_of(url) for url in spelled]})
    create_view("crawler_order", revision)
