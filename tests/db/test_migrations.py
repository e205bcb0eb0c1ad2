"""The schema is created in any database: empty, with a web app's tables, or with an older component's."""

import os
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from console.embedded.postgres import wheel_binaries
from persistence.audit.audit import audit
from persistence.db.engine import engine
from persistence.exceptions import Contended, DatabaseFaultError, IllegalRequestError
from persistence.maintenance.adoption import adopt, read_unadopted_jobs
from persistence.migrations.run import differences, head_revision, migrate
from support.worlds.discoveries import GROUP_COMMANDS, PROJECT_COMMANDS, Discoverer, group, project, user
from support.worlds.older_databases import ITS_TABLES, OLDER_COMPONENT, WEB_APP
from support.worlds.world import Published, World


@pytest.fixture
def web_app(empty_database: str, published: Published) -> World:
    """A database with only a web app's tables."""
    world = World(published)
    run(WEB_APP)
    return world


def run(statements: str) -> None:
    """Run statements and commit them."""
    with engine().begin() as connection:
        connection.exec_driver_sql(statements)


def dump(url: str, *tables: str) -> list[str]:
    """The objects and rows that pg_dump writes of these tables, or of all, sorted."""
    binaries = os.environ.get("CRAWLYARD_TEST_POSTGRES_BIN")
    pg_dump = (Path(binaries) if binaries else wheel_binaries()) / "pg_dump"
    chosen = [f'--table="{table}"' for table in tables]
    dumped = subprocess.run([pg_dump, *chosen, f"--dbname={url}"], check=True, capture_output=True, text=True)
    # The order of pg_dump follows foreign keys, also ours; newer versions write a random \restrict key.
    lines = (
        line for line in dumped.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
    )
    return sorted("\n".join(lines).split("\n--\n-- "))


def test_migrating_an_empty_database_matches_the_mappings(empty_database: str) -> None:
    """The database has exactly what the mappings say, and no jobs that await adoption."""
    migrated = migrate()

    assert (migrated.before, migrated.after) == (None, head_revision())
    with engine().connect() as connection:
        assert differences(connection) == []
        assert connection.scalars(text("SELECT adopted_from FROM adoption")).all() == [None]


def test_alembics_own_check_finds_nothing_to_migrate(database: str) -> None:
    """`alembic check` raises if a mapping has no migration."""
    config = Config()
    config.set_main_option("script_location", "persistence:migrations")
    with engine().connect() as connection:
        config.attributes["connection"] = connection
        command.check(config)


def test_a_database_at_head_stays_as_it_is(database: str) -> None:
    """Migrating again changes nothing."""
    before = dump(database)

    migrated = migrate()

    assert (migrated.before, migrated.after) == (head_revision(), head_revision())
    assert dump(database) == before


def test_concurrent_migrations_are_harmless(web_app: World) -> None:
    """One of them migrates; the others wait for it and change nothing."""
    migrated = []
    threads = [Thread(target=lambda: migrated.append(migrate())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    head = head_revision()
    assert sorted(m.before or "" for m in migrated) == ["", head, head, head]
    assert web_app.scalar("SELECT count(*) FROM liveness_state") == 1


@pytest.mark.parametrize(
    ("flaw", "error", "says"),
    [
        ("CREATE TABLE rejected_message (id text)", DatabaseFaultError, '"rejected_message" already exists'),
        ("ALTER TABLE job_queue DROP COLUMN priority", DatabaseFaultError, "priority does not exist"),
        ("ALTER TABLE job DROP COLUMN progress, DROP COLUMN branch", IllegalRequestError,
         'table "job" exists but lacks branch, progress'),
        ("ALTER TYPE job_status RENAME VALUE 'cancelled' TO 'given up'", IllegalRequestError,
         "ALTER TYPE job_status ADD VALUE 'cancelled';"),
    ],
    ids=["a table in the way", "an older table without a column", "a column missing", "an enum without cancelled"],
)  # fmt: skip
def test_an_impossible_migration_explains_itself_and_changes_nothing(
    web_app: World, empty_database: str, flaw: str, error: type[Exception], says: str
) -> None:
    """The failed migration is one transaction: no table, type or row differs afterwards."""
    run(OLDER_COMPONENT + flaw)
    before = dump(empty_database)

    with pytest.raises(error) as raised:
        migrate()

    assert says in str(raised.value)
    assert dump(empty_database) == before


def test_the_statement_printed_by_a_failed_migration_fixes_it(web_app: World) -> None:
    """Once the owner has run it, the database can be migrated."""
    run("ALTER TYPE job_status RENAME VALUE 'cancelled' TO 'given up'")
    with pytest.raises(IllegalRequestError) as raised:
        migrate()

    run(str(raised.value).partition("must first run: ")[2])

    assert migrate().after == head_revision()


def test_a_migration_gives_way_to_a_running_web_app(web_app: World, empty_database: str) -> None:
    """It waits only briefly for a lock, because the web app's writes would queue up behind it."""
    before = dump(empty_database)
    with psycopg.connect(empty_database) as at_work:
        at_work.execute("UPDATE job SET label = 'some' WHERE id = 'old-queued'")
        with pytest.raises(Contended):
            migrate()
        at_work.rollback()

    assert dump(empty_database) == before
    assert migrate().before is None


def test_tables_of_the_web_app_are_not_changed(web_app: World, empty_database: str) -> None:
    """Their columns, types, defaults, indexes, constraints, triggers and rows stay the same."""
    before = dump(empty_database, *ITS_TABLES)

    migrate()

    assert dump(empty_database, *ITS_TABLES) == before
    assert sum("CREATE TABLE" in statement for statement in before) == len(ITS_TABLES)
    assert read_unadopted_jobs().jobs == {"failed": 1, "finished": 1, "queued": 1, "running": 1}
    assert web_app.scalar("SELECT adopted_from <= clock_timestamp() FROM adoption")


def test_other_index_and_constraint_names_of_the_web_app_are_accepted(web_app: World) -> None:
    """Our only dependencies on its tables are foreign keys to `job`."""
    indexes = "SELECT indexname FROM pg_indexes WHERE tablename = ANY (:tables) ORDER BY 1"
    before = web_app.rows(indexes, tables=list(ITS_TABLES))

    migrate()

    assert web_app.rows(indexes, tables=list(ITS_TABLES)) == before
    pointing = (
        "SELECT DISTINCT confrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND conrelid IN "
    )
    ours = "('job_queue'::regclass, 'job_assignment_mapping'::regclass, 'job_error_log'::regclass)"
    assert web_app.rows(pointing + ours) == [("job",)]


def test_the_life_of_a_job_works_with_enums_of_the_web_app(web_app: World) -> None:
    """Jobs are submitted, inserted, assigned, retried, completed, cancelled and paused with its types."""
    migrate()
    (done,) = web_app.submit(web_app.order(entity_id="42", user_id="ann", branch="main"))
    own = web_app.insert_job(branch="main")
    web_app.deliver("jobs.enqueue", job_ids=[own])
    crawler = web_app.crawler(capacity=1)
    web_app.assign()

    (order,) = crawler.orders()
    assert web_app.scalar('SELECT "entityId" FROM crawler_order') == "gid://gitlab/Project/42"
    crawler.sends("job_started", order)
    crawler.sends(
        "job_progress",
        order,
        stage="fetching",
        entityType="issue",
        processed=1,
        resumeState={"currentPage": 2},
    )
    crawler.fails(order)
    web_app.rows(
        "UPDATE job_queue SET scheduled_at = now() - interval '1 hour' WHERE web_app_job_id = :id", id=done
    )
    web_app.assign()
    assert web_app.row("SELECT command, resume_state FROM crawler_order") == ("project", {"currentPage": 2})
    crawler.sends("job_completed", *crawler.orders())

    web_app.assign()
    crawler.fails(*crawler.orders(), recoverable=False)
    assert (web_app.job(done).status, web_app.job(done).resume_state) == ("finished", None)
    assert web_app.job(own).status == "failed"

    web_app.submit(web_app.order(web_app_job_id=own, force=True))
    assert web_app.job(own).status == "queued"
    web_app.assign()
    web_app.deliver("jobs.cancel", job_ids=[own])
    assert web_app.job(own).status == "cancelled"

    (held,) = web_app.jobs(1)
    web_app.assign()
    web_app.rows("UPDATE job SET status = 'paused' WHERE id = :id", id=held)
    web_app.deliver("upkeep.reconcile")
    assert (web_app.entry(held).held, crawler.orders()) == (True, [])
    assert web_app.rejections() == []


@pytest.mark.parametrize("kind", ["job_ids", "account_id", "area", "subtree_of"])
def test_the_job_commands_work_with_enums_of_the_web_app(web_app: World, kind: str) -> None:
    """Jobs are paused, resumed, retried, prioritized and cancelled with its types, by each selection."""
    migrate()
    job_id = web_app.insert_job(full_path="a/b")
    child = web_app.insert_job(full_path="a/b/c", spawned_from=job_id)
    web_app.deliver("jobs.enqueue", job_ids=[job_id, child])
    selected = {"job_ids": [job_id, child], "account_id": "acc", "area": "a/b", "subtree_of": job_id}[kind]

    def after(verb: str, **payload: Any) -> set[str]:
        web_app.deliver(f"jobs.{verb}", **{kind: selected}, **payload)
        return {web_app.job(id_).status for id_ in (job_id, child)}

    assert after("pause") == {"queued" if kind == "account_id" else "paused"}
    assert after("resume") == {"queued"}
    web_app.rows("UPDATE job SET status = 'failed' WHERE full_path LIKE 'a/%'")
    web_app.deliver("upkeep.reconcile")
    assert after("retry", failed_after="2001-01-01T00:00:00Z") == {"queued"}
    assert after("prioritize", priority=4) == {"queued"}
    assert {web_app.entry(id_).priority for id_ in (job_id, child)} == {4}
    assert after("cancel") == {"cancelled"}
    assert web_app.rejections() == []


def test_discoveries_and_tokens_work_with_enums_of_the_web_app(web_app: World) -> None:
    """Areas and child jobs are created and moved, and a token is renewed, with its types."""
    migrate()
    discoverer = Discoverer.at_work(web_app)
    discoverer.finds(group("new", 7), project("new/tool", 42))
    discoverer.finds(project("lab/tool", 42), at="2026-05-04T03:02:09Z")
    discoverer.sends("job_completed")

    found = web_app.rows(
        "SELECT full_path, type::text, gitlab_id FROM area WHERE full_path <> 'old/area' ORDER BY 1"
    )
    assert found == [
        ("lab/tool", "project", "gid://gitlab/Project/42"),
        ("new", "group", "gid://gitlab/Group/7"),
    ]
    children = "SELECT full_path, count(*) FROM job WHERE spawned_from IS NOT NULL GROUP BY 1 ORDER BY 1"
    assert web_app.rows(children) == [("lab/tool", 5), ("new", 4)]
    web_app.assign()
    (order,) = discoverer.crawler.orders()
    discoverer.crawler.sends("token_refresh_request", order)
    assert web_app.scalar("SELECT count(*) FROM job WHERE status = 'waiting_credential_renewal'") == 1
    web_app.deliver("credentials.refresh", account_id="acc")
    web_app.deliver("credentials.renewed", account_id="acc")
    assert (
        web_app.scalar("SELECT count(*) FROM job WHERE status = 'queued' AND spawned_from IS NOT NULL") == 9
    )
    assert web_app.rejections() == []


def test_data_of_an_older_component_is_carried_over(web_app: World) -> None:
    """The newest entry of a job is parked, connections and attempts are closed, and no token is copied."""
    run(OLDER_COMPONENT)

    migrate()

    entries = (
        "SELECT id, web_app_job_id, status, held, priority, attempts, account_id, host, data FROM job_queue"
    )
    host = "gitlab.example.org"
    assert web_app.rows(f"{entries} ORDER BY id") == [
        ("q2", "old-queued", "pending", True, 7, 2, "acc", host, {"entity_id": "7"}),
        ("q3", "old-running", "pending", True, 1, 1, "acc", host, []),
        ("q4", "old-finished", "completed", False, 1, 1, "acc", host, None),
    ]
    attempts = (
        "SELECT id, crawler_job_id, status, completed_at IS NULL FROM job_assignment_mapping ORDER BY id"
    )
    assert web_app.rows(attempts) == [
        ("a1", "group_1:a1", "failed", False),
        ("a2", "group_1", "cancelled", False),
        ("a3", "group_2", "completed", False),
        ("a4", "a4", "cancelled", False),
        ("a5", "a5", "cancelled", False),
    ]
    connections = "SELECT id, crawler_id, is_active, active_jobs, closed_at IS NULL FROM socket_connection"
    assert web_app.rows(connections) == [("socket", "crawler-1", False, [], False)]
    assert web_app.rows("SELECT id, job_id, error_type, error_message FROM job_error_log") == [
        ("e1", "old-failed", "unknown", "it broke")
    ]
    assert web_app.rows("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'crawlyard%'") == []


def test_the_life_of_a_discovery_works_with_enums_of_the_web_app(
    web_app: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Areas are found, moved, merged and renamed, and jobs deferred, with its types and lengths."""
    migrate()
    discoverer = Discoverer.at_work(web_app)
    discoverer.finds(group("old/area", 1), project("old/tool", 42), project("lab/tool", 43), user("ann", 1))
    web_app.rows("UPDATE job SET status = 'failed', finished_at = now() WHERE full_path = 'old/tool'")
    web_app.rows(
        "UPDATE job_queue SET status = 'failed', settled_at = now()"
        " FROM job WHERE job.id = web_app_job_id AND full_path = 'old/tool'"
    )
    discoverer.finds(
        project("lab/tool", 42),
        project("/".join(["x" * 199] * 5), 44, entity_name="x" * 255),
        at="2026-05-04T03:02:10Z",
    )
    monkeypatch.setenv("CRAWLYARD_PENDING_CAP", "1")
    web_app.reload_settings()
    discoverer.finds(project("late", 45), summary={"totalProjects": 4}, at="2026-05-04T03:02:11Z")
    assert web_app.scalar("SELECT count(*) FROM deferred_job") == len(PROJECT_COMMANDS)
    monkeypatch.delenv("CRAWLYARD_PENDING_CAP")
    web_app.reload_settings()
    web_app.deliver("upkeep.feed_deferred")
    discoverer.sends("job_completed")

    assert web_app.rejections() == []
    assert web_app.rows("SELECT full_path, gitlab_id, type::text FROM area ORDER BY 1") == [
        ("lab/tool", "gid://gitlab/Project/42", "project"),
        ("late", "gid://gitlab/Project/45", "project"),
        ("old/area", "gid://gitlab/Group/1", "group"),
        ("/".join(["x" * 199] * 5), "gid://gitlab/Project/44", "project"),
    ]
    assert web_app.scalar("SELECT count(*) FROM area_authorization") == 4
    assert web_app.job(discoverer.job_id).status == "finished"
    made = "SELECT status::text, count(*) FROM job WHERE spawned_from = :id GROUP BY 1"
    children = len(GROUP_COMMANDS) + 4 * len(PROJECT_COMMANDS) + 1
    assert web_app.rows(made, id=discoverer.job_id) == [("queued", children)]
    assert web_app.job(discoverer.job_id).progress["discovery"]["summary"] == {"totalProjects": 4}


def test_old_jobs_are_left_alone_until_they_are_adopted(web_app: World) -> None:
    """Before adoption nothing changes them; afterwards queued and running jobs wait, with their counts."""
    run(OLDER_COMPONENT)
    migrate()
    crawler = web_app.crawler()
    before = web_app.snapshot()
    web_app.deliver("upkeep.reconcile")
    web_app.assign()
    assert web_app.snapshot() == before

    adopt()
    web_app.rows("DELETE FROM periodic_ring")
    web_app.deliver("upkeep.reconcile")
    web_app.assign()

    assert web_app.scalar("SELECT adopted_from FROM adoption") is None
    assert len(crawler.orders()) == 2
    statuses = {
        job_id: (web_app.job(job_id).status, web_app.entry(job_id).attempts)
        for job_id in ("old-queued", "old-running")
    }
    assert statuses == {"old-queued": ("queued", 2), "old-running": ("queued", 1)}
    assert web_app.job("old-finished").status == "finished"
    assert web_app.attempts("old-finished")[0].status == "completed"


def test_data_of_an_older_component_is_not_a_fault(web_app: World) -> None:
    """The audit finds no fault before the adoption, or after it once reconcile has run."""
    run(OLDER_COMPONENT)
    run("""
        INSERT INTO job (id, created_at, "accountId") VALUES ('old-scope', now() - interval '1 day', 'acc');
        INSERT INTO job_queue (id, web_app_job_id, status) VALUES ('q5', 'old-scope', 'pending')
    """)
    migrate()
    assert _faults() == []

    adopt()
    web_app.deliver("upkeep.reconcile")
    web_app.assign()
    web_app.crawler()
    web_app.assign()

    assert _faults() == []
    assert web_app.scalar("SELECT count(*) FROM crawler_order") == 2


def _faults() -> list[str]:
    with engine().connect() as connection:
        return [str(fault) for fault in audit(connection, at_rest=True)]


def test_a_view_is_stated_once_and_created_by_the_revision_that_it_names() -> None:
    """No migration contains the text of a view, and each file of a view names the migration that creates it."""
    folder = Path(str(files("persistence")))
    versions = {
        path.name.split("_")[0]: path.read_text("utf-8")
        for path in (folder / "migrations" / "versions").glob("*.py")
    }
    assert not [revision for revision, text in versions.items() if re.search(r"\bVIEW\b", text)]
    for view in (folder / "schema" / "views").glob("*.sql"):
        named = re.match(r"-- Revision (\d+)\.", view.read_text("utf-8"))
        assert named, view.name
        assert f'create_view("{view.stem}", revision)' in versions[named[1]]
