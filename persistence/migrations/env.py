"""Alembic's entry point: it uses the connection and the transaction of `run`."""

from alembic import context

from persistence.migrations.scope import VERSION_TABLE, is_known
from persistence.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    include_object=is_known,
)
context.run_migrations()
