"""
The environments of other people, as data: how each is made, what a start says there, and what the doctor says.

`new_database`: an empty one in this encoding. `database` is run by the owner of the tables, with {db} and {role} filled
in; `undo` afterwards. `role`: connect as a role that has what `database` grants it. `redis`: connect as a user with
these rules. `variables` are set; {postgres} and {redis} are the servers. `start` is what a worker says (a pattern): it
ends the start if `ends`, else the worker goes on. `finding` is the doctor's: what was examined, its level, and patterns
of the detail and the remedy; None if the doctor refuses the settings as the start does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

ALL = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
SEQUENCE = "GRANT USAGE ON SEQUENCE assign_bell TO {role}"


@dataclass(frozen=True)
class Environment:
    """One environment."""

    name: str
    finding: tuple[str, str, str, str] | None
    start: str = ""
    ends: bool = False
    database: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    new_database: str = ""
    role: bool = False
    redis: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def setting(name: str, value: str) -> Environment:
    """A default of the database's that we override in every session, and that is no matter therefore."""
    change = f"ALTER DATABASE {{db}} SET {name} TO {value}"
    undo = f"ALTER DATABASE {{db}} RESET {name}"
    return Environment(
        f"default-{name}",
        ("session", "ok", f"(?i)limits are Crawlyard's; these defaults do not count: {name}$", ""),
        database=(change,),
        undo=(undo,),
    )


ENVIRONMENTS = (
    # The database itself
    Environment(
        "a-database-in-sql-ascii",
        (
            "database",
            "fault",
            "encoding is SQL_ASCII, and Crawlyard needs UTF8",
            "^Then point DATABASE_URL there",
        ),
        start="^The database's encoding is SQL_ASCII, and Crawlyard needs UTF8: create a database with ENCODING",
        ends=True,
        new_database="SQL_ASCII",
    ),
    Environment(
        "a-database-that-was-never-migrated",
        ("schema", "fault", "never migrated", "Run `crawlyard migrate`"),
        start="^The database was never migrated: run `crawlyard migrate`",
        ends=True,
        new_database="UTF8",
    ),
    Environment(
        "a-database-that-is-away",
        ("database", "fault", "The database cannot be used: .*Connection refused", "Is it running"),
        start="the database cannot be used, and is waited for: .*Connection refused",
        variables={"DATABASE_URL": "postgresql://me@127.0.0.1:9/nowhere"},
    ),
    Environment(
        "a-password-that-postgres-refuses",
        ("database", "fault", "password authentication failed for user .stranger", "is DATABASE_URL right"),
        start="waited for: .*password authentication failed for user .stranger",
        variables={"DATABASE_URL": "postgresql://stranger:wrong@{postgres}"},
    ),
    Environment(
        "two-installations-on-one-path",
        ("search_path", "fault", "job_queue found in several schemas", "Set search_path for the role"),
        start="^search_path finds Crawlyard's tables in several schemas: app, public",
        ends=True,
        database=(
            "CREATE SCHEMA app",
            "CREATE TABLE app.job_queue (LIKE public.job_queue)",
            "ALTER DATABASE {db} SET search_path TO app, public",
        ),
        undo=("ALTER DATABASE {db} RESET search_path", "DROP SCHEMA IF EXISTS app CASCADE"),
    ),
    # Rights in Postgres
    Environment(
        "a-table-of-ours-without-rights",
        ("rights", "fault", r"^missing: DELETE on job_queue$", r"GRANT DELETE ON job_queue TO"),
        start=r"^The role stranger lacks DELETE on job_queue\. Have their owner run: GRANT",
        ends=True,
        role=True,
        database=(ALL, SEQUENCE, "REVOKE DELETE ON job_queue FROM {role}"),
    ),
    Environment(
        "a-sequence-of-ours-without-rights",
        ("rights", "fault", "USAGE on assign_bell", "GRANT USAGE ON SEQUENCE assign_bell TO"),
        start="lacks USAGE on assign_bell",
        ends=True,
        role=True,
        database=(ALL,),
    ),
    Environment(
        "the-web-apps-table-without-rights",
        ("rights", "fault", "^missing: UPDATE on user$", 'GRANT UPDATE ON "user"'),
        start="lacks UPDATE on user",
        ends=True,
        role=True,
        database=(ALL, SEQUENCE, 'REVOKE UPDATE ON "user" FROM {role}'),
    ),
    Environment(
        "no-rights-at-all",
        ("rights", "fault", "SELECT, INSERT, UPDATE, DELETE on .*job_queue", "GRANT SELECT, INSERT"),
        start="lacks .*SELECT on crawlyard_version",
        ends=True,
        role=True,
        database=("SELECT 1",),
    ),
    Environment(
        "the-view-of-orders-without-rights",
        (
            "rights on orders",
            "warning",
            "^missing: SELECT on crawler_order$",
            "GRANT SELECT ON crawler_order TO stranger. Gateways",
        ),
        role=True,
        database=(ALL, SEQUENCE, "REVOKE ALL ON crawler_order FROM {role}"),
    ),
    Environment(
        "a-view-of-orders-whose-owner-may-not-read",
        (
            "rights on orders",
            "warning",
            "^missing: SELECT on area, job by stranger, the owner of crawler_order$",
            "GRANT SELECT ON area, job TO stranger",
        ),
        role=True,
        start="lacks SELECT on area, job",
        ends=True,
        database=(
            ALL,
            SEQUENCE,
            "GRANT CREATE ON SCHEMA public TO {role}",
            "ALTER VIEW crawler_order OWNER TO {role}",
            "REVOKE SELECT ON job, area FROM {role}",
        ),
        undo=("ALTER VIEW crawler_order OWNER TO CURRENT_USER",),
    ),
    Environment(
        "a-schema-without-usage",
        ("rights", "fault", "USAGE on schema public", "GRANT USAGE ON SCHEMA public TO"),
        start="lacks USAGE on schema public",
        ends=True,
        role=True,
        database=(ALL, SEQUENCE, "REVOKE USAGE ON SCHEMA public FROM PUBLIC"),
        undo=("GRANT USAGE ON SCHEMA public TO PUBLIC",),
    ),
    Environment(
        "row-level-security-without-a-policy",
        ("row level security", "fault", "hides rows of account, job from stranger", "BYPASSRLS"),
        start=r"^Row level security hides rows of account, job from the role stranger",
        ends=True,
        role=True,
        database=(
            ALL,
            SEQUENCE,
            "ALTER TABLE job ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE account ENABLE ROW LEVEL SECURITY",
        ),
        undo=(
            "ALTER TABLE job DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE account DISABLE ROW LEVEL SECURITY",
        ),
    ),
    Environment(
        "row-level-security-with-a-policy-for-all",
        ("row level security", "ok", "hides no row", ""),
        role=True,
        database=(
            ALL,
            SEQUENCE,
            "ALTER TABLE job ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY all_rows ON job FOR ALL TO {role} USING (true)",
        ),
        undo=("ALTER TABLE job DISABLE ROW LEVEL SECURITY", "DROP POLICY IF EXISTS all_rows ON job"),
    ),
    Environment(
        "row-level-security-with-a-restrictive-policy",
        (
            "row level security",
            "fault",
            "hides rows of job",
            "CREATE POLICY crawlyard ON job FOR ALL TO stranger USING .true.",
        ),
        start="hides rows of job",
        ends=True,
        role=True,
        database=(
            ALL,
            SEQUENCE,
            "ALTER TABLE job ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY all_rows ON job FOR ALL TO {role} USING (true)",
            "CREATE POLICY some_rows ON job AS RESTRICTIVE FOR SELECT TO PUBLIC USING (id > 'a')",
        ),
        undo=(
            "ALTER TABLE job DISABLE ROW LEVEL SECURITY",
            "DROP POLICY IF EXISTS all_rows ON job",
            "DROP POLICY IF EXISTS some_rows ON job",
        ),
    ),
    # Rights in Redis
    Environment(
        "redis-without-channels",
        (
            "remote control",
            "warning",
            r"may not use the channels /0\.celery\.pidbox",
            r"ACL SETUSER stranger &/0",
        ),
        start=r"no remote control \(celery inspect\): the broker's user stranger may not use the channels",
        redis=("~*", "resetchannels", "+@all"),
    ),
    Environment(
        "redis-without-dangerous",
        ("Redis", "warning", "may not use the command INFO", r"\+info .*Crawlyard needs no INFO"),
        redis=("~*", "&*", "+@all", "-@dangerous"),
    ),
    Environment(
        "redis-without-commands",
        ("broker rights", "fault", "may not use the commands BRPOP, ZADD", r"\+brpop \+zadd"),
        start="may not use the commands BRPOP, ZADD",
        redis=("~*", "&*", "+@all", "-brpop", "-zadd"),
    ),
    Environment(
        "redis-without-a-key",
        ("broker rights", "fault", "may not use the keys upkeep, unacked_index", "~upkeep ~unacked_index"),
        start="may not use the keys upkeep, unacked_index",
        redis=("~crawler", "~dispatch", "~unacked", "~unacked_mutex", "~*celery*", "~_kombu*", "&*", "+@all"),
    ),
    Environment(
        "redis-without-transactions",
        ("broker rights", "fault", "may not use the command MULTI", r"\+multi"),
        start="may not use the command MULTI",
        redis=("~*", "&*", "+@all", "-multi"),
    ),
    Environment(
        "a-password-that-redis-refuses",
        ("broker", "fault", "The broker refuses: invalid username-password pair", "is BROKER_URL right"),
        variables={"BROKER_URL": "redis://stranger:wrong@{redis}"},
    ),
    # Defaults of the database
    setting("datestyle", "'German, DMY'"),
    setting("intervalstyle", "'sql_standard'"),
    setting("timezone", "'Asia/Kolkata'"),
    setting("client_encoding", "'LATIN1'"),
    setting("standard_conforming_strings", "off"),
    setting("default_transaction_isolation", "'serializable'"),
    setting("statement_timeout", "'500ms'"),
    setting("lock_timeout", "'1ms'"),
    setting("idle_in_transaction_session_timeout", "'500ms'"),
    setting("idle_session_timeout", "'500ms'"),
    setting("array_nulls", "off"),
    Environment(
        "read-only",
        (
            "writes",
            "fault",
            "default_transaction_read_only is on",
            "Set it off for the database and the role",
        ),
        start="default_transaction_read_only is on",
        database=("ALTER DATABASE {db} SET default_transaction_read_only TO on",),
        undo=("ALTER DATABASE {db} RESET default_transaction_read_only",),
    ),
    Environment(
        "collations-of-another-version",  # which functions of ours in front of the server's say
        (
            "collations",
            "warning",
            "^the database, sorting sorted by another version",
            "REINDEX DATABASE; ALTER DATABASE .* REFRESH .*ALTER COLLATION sorting REFRESH VERSION",
        ),
        database=(
            "CREATE SCHEMA former",
            "CREATE FUNCTION former.pg_collation_actual_version(oid) RETURNS text LANGUAGE sql RETURN '2'",
            "CREATE FUNCTION former.pg_database_collation_actual_version(oid) RETURNS text LANGUAGE sql RETURN '2'",
            "CREATE COLLATION former.sorting (provider = libc, locale = 'C')",
            "ALTER TABLE job_error_log ALTER COLUMN error_type TYPE text COLLATE former.sorting",
            "UPDATE pg_collation SET collversion = '1' WHERE collname = 'sorting'",
            "UPDATE pg_database SET datcollversion = '1' WHERE datname = current_database()",
            "ALTER DATABASE {db} SET search_path TO former, pg_catalog, public",
        ),
        undo=(
            "ALTER DATABASE {db} RESET search_path",
            "UPDATE pg_database SET datcollversion = NULL WHERE datname = current_database()",
            'ALTER TABLE job_error_log ALTER COLUMN error_type TYPE text COLLATE "default"',
            "DROP SCHEMA former CASCADE",
        ),
    ),
    # Variables
    Environment(
        "never-in-seconds",
        None,
        start="CRAWLYARD_STATEMENT_TIMEOUT",
        ends=True,
        variables={"CRAWLYARD_STATEMENT_TIMEOUT": "2592000"},
    ),
    Environment(
        "a-misspelt-setting",
        (
            "the environment",
            "warning",
            "CRAWLYARD_SWEEP_INTERVALL is not",
            "Did you mean CRAWLYARD_SWEEP_INTERVAL",
        ),
        variables={"CRAWLYARD_SWEEP_INTERVALL": "1"},
    ),
    Environment(
        "celerys-broker",
        ("Celery's variables", "warning", "CELERY_BROKER_URL is ignored", "Remove them"),
        variables={"CELERY_BROKER_URL": "redis://127.0.0.1:9/7"},
    ),
    Environment(
        "celerys-backend",
        ("Celery's variables", "warning", "CELERY_RESULT_BACKEND is ignored", "Remove them"),
        variables={"CELERY_RESULT_BACKEND": "django-db"},
    ),
    Environment(
        "libpqs-formats",
        ("session", "ok", "do not count: PGCLIENTENCODING, PGDATESTYLE, PGTZ$", ""),
        variables={"PGCLIENTENCODING": "LATIN1", "PGDATESTYLE": "German", "PGTZ": "Asia/Kolkata"},
    ),
)
