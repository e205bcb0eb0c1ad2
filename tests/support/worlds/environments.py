"""
The environments of other people, as data: how each is made, what a start says there, and what the doctor says.

`database` is run by the owner of the tables, with {db} and {role} filled in; `undo` afterwards. `role`: connect as a
role that has what `database` grants it. `redis`: connect as a user with these rules. `variables` are set. `start` is
what a worker says (a pattern): it ends the start if `ends`, else the worker goes on. `finding` is the doctor's: what
was examined, its level, and patterns of the detail and the remedy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

ALL = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
SEQUENCE = "GRANT USAGE ON SEQUENCE assign_bell TO {role}"


@dataclass(frozen=True)
class Environment:
    """One environment."""

    name: str
    finding: tuple[str, str, str, str]
    start: str = ""
    ends: bool = False
    database: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    role: bool = False
    redis: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def setting(name: str, value: str) -> Environment:
    """A default of the database's that we override in every session, and that is no matter therefore."""
    change = f"ALTER DATABASE {{db}} SET {name} TO {value}"
    undo = f"ALTER DATABASE {{db}} RESET {name}"
    return Environment(
        f"default-{name}",
        ("session", "ok", "encoding and formats are Crawlyard's", ""),
        database=(change,),
        undo=(undo,),
    )


ENVIRONMENTS = (
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
        ("row level security", "fault", "hides rows of job", "CREATE POLICY"),
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
    # Variables
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
        ("session", "ok", "encoding and formats are Crawlyard's", ""),
        variables={"PGCLIENTENCODING": "LATIN1", "PGDATESTYLE": "German", "PGTZ": "Asia/Kolkata"},
    ),
)
