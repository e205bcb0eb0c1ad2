"""The database: schema, migrations, the unit of work and its repositories. Knows nothing of Celery."""
