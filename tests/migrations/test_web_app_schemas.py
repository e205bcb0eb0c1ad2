"""A web app's schema, as an ORM makes it, is adopted and works, or is refused by name with the statement that helps."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from console.embedded.servers import Services
from persistence.db.engine import engine
from persistence.exceptions import IllegalRequestError
from persistence.migrations.head import check_head
from persistence.migrations.run import migrate
from persistence.migrations.web_app.tables import examine, require_usable
from persistence.settings import settings
from support.command import Run
from support.engines import forget_engine
from support.servers import Given
from support.web_app_schemas.cases import AT_WORK, REFUSED, UTC, Case
from support.worlds.discoveries import GROUP_COMMANDS, PROJECT_COMMANDS, Discoverer, group, project
from support.worlds.older_databases import OLDER_COMPONENT
from support.worlds.world import Published, World

Make = Callable[[Case], World]

DATABASE = "schemas_of_web_apps"


@pytest.fixture(scope="module")
def one_database(services: Services | Given) -> Iterator[str]:
    """A database for all schemas, far from UTC."""
    name = Identifier(DATABASE)
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {}").format(name))
        admin.execute(SQL("ALTER DATABASE {} SET TimeZone TO 'Asia/Kolkata'").format(name))
        yield services.database_url.rpartition("/")[0] + f"/{DATABASE}"
        forget_engine()
        admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def make(one_database: str, monkeypatch: pytest.MonkeyPatch, published: Published) -> Make:
    """Make a case's tables in a schema of its own, which the settings then name."""

    def make(case: Case) -> World:
        with psycopg.connect(one_database, autocommit=True) as admin:
            admin.execute(SQL("CREATE SCHEMA {}").format(Identifier(case.name)))
            admin.execute(SQL("SET search_path TO {}").format(Identifier(case.name)))
            admin.execute(case.statements.encode())
        monkeypatch.setenv("DATABASE_URL", f"{one_database}?schema={case.name}")
        monkeypatch.delenv("CRAWLYARD_DIRECT_DATABASE_URL", raising=False)
        for name, value in case.settings.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        if engine().url.database != DATABASE:
            forget_engine()
        return World(published)

    return make


def repair(case: Case, refusal: str) -> None:
    """Run the statements that a refusal prints, as the owner of the tables."""
    with psycopg.connect(settings().psycopg_url, autocommit=True) as owner:
        owner.execute(refusal.partition("must first run: ")[2].encode())
        owner.execute(case.afterwards.encode())


@pytest.mark.parametrize("case", AT_WORK, ids=lambda case: case.name)
def test_a_schema_that_is_adopted_works(case: Case, make: Make, run: Run) -> None:
    """Jobs are submitted, assigned, finished, discovered and deleted, and what may not be repeated is not."""
    world = make(case)
    if case.refused:
        with pytest.raises(IllegalRequestError, match=case.refused) as raised:
            migrate()
        repair(case, str(raised.value))
    migrate()
    check_head()

    discoverer = Discoverer.at_work(world)
    discoverer.finds(group("lab", 7), project("lab/tool", 42))
    discoverer.finds(project("lab/moved", 42), at="2026-05-04T03:02:10Z")
    discoverer.sends("job_completed")
    assert world.job(discoverer.job_id).status == "finished"
    found = "SELECT full_path, type::text FROM area ORDER BY 1"
    assert world.rows(found) == [("lab", "group"), ("lab/moved", "project")]
    assert world.scalar("SELECT count(*) FROM job_area") == len(GROUP_COMMANDS) + len(PROJECT_COMMANDS)
    assert world.rejections() == []

    again = world.order(command="GROUP_PROJECT_DISCOVERY", namespace_path=None, user_id="ann")
    again["web_app_job_id"] = discoverer.job_id
    world.submit(again)
    world.submit(world.order(account_id="nobody"))
    assert world.job(discoverer.job_id).status == "finished"
    assert [reason for _, reason in world.rejections()] == ["unknown_account"]

    crawler = world.crawler(capacity=1)
    world.assign()
    (order,) = crawler.orders()
    crawler.sends("job_started", order)
    crawler.fails(order, recoverable=False)
    world.assign()
    crawler.sends("token_refresh_request", *crawler.orders())
    statuses = "SELECT status::text, count(*) FROM job WHERE spawned_from IS NOT NULL GROUP BY 1 ORDER BY 1"
    assert [status for status, _ in world.rows(statuses)] == [
        "failed",
        "queued",
        "waiting_credential_renewal",
    ]
    age = "SELECT EXTRACT(epoch FROM now() - finished_at)::float FROM job WHERE finished_at IS NOT NULL"
    assert [0 <= seconds < 60 for (seconds,) in world.rows(age)] == [True, True]

    old = "UPDATE job SET finished_at = now() - interval '49 hours' WHERE id = :id"
    world.rows(old, id=discoverer.job_id)
    world.submit(again)
    assert world.job(discoverer.job_id).status == "queued"

    world.rows("UPDATE job_queue SET settled_at = now() - interval '99 days' WHERE settled_at IS NOT NULL")
    errors = "UPDATE job_error_log SET timestamp = now() - interval '99 days'"
    world.rows(f"{errors} WHERE job_id = (SELECT id FROM job WHERE status = 'failed')")
    for task in ("reconcile", "clean_up", "take_statistics", "clean_up"):
        world.rows("DELETE FROM periodic_ring")
        world.deliver(f"upkeep.{task}")
    assert world.scalar("SELECT count(*) FROM job WHERE status = 'failed'") == 0
    for command in (
        "audit",
        "status",
        "stats --account acc",
        "progress --account acc",
        "accounts list",
        "areas changes",
    ):
        output = run(*command.split())
        assert (output.code, output.err) == (0, ""), output.out
    assert [reason for _, reason in world.rejections()] == ["unknown_account"]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_schema_that_is_refused_is_told_how_to_be_repaired(case: Case, make: Make) -> None:
    """One line names each column; once its owner has run the statements, nothing is refused any more."""
    world = make(case)

    with pytest.raises(IllegalRequestError, match=case.refused) as raised:
        migrate()

    assert "\n" not in str(raised.value)
    assert world.scalar("SELECT to_regclass('crawlyard_version')") is None
    if "must first run" not in str(raised.value):
        assert case.name in {"a column missing", "a view"}
        return
    repair(case, str(raised.value))
    with engine().connect() as connection:
        require_usable(connection, older={"job_error_log"})
        assert examine(connection).times_without_zone == (7 if case.settings else 0)


def test_a_worker_and_the_doctor_check_the_same(make: Make, run: Run) -> None:
    """A web app may change its columns later; the zone of its own sessions is told, too."""
    case = Case("changed later", "drizzle", settings=UTC)
    world = make(case)
    migrate()

    def told(about: str) -> tuple[str, str]:
        (found,) = [f for f in run("doctor", "--json").json["findings"] if f["about"] == about]
        return found["level"], f"{found['detail']} {found['remedy']}"

    assert told("web app's tables")[0] == "ok"
    level, text = told("timestamps")
    assert level == "warning"
    assert "7 timestamp columns without time zone read and written in UTC; TimeZone" in text
    assert "Asia/Kolkata" in text
    world.rows("ALTER TABLE job ADD team text NOT NULL")
    with pytest.raises(IllegalRequestError, match=r"job\.team is NOT NULL without a default"):
        check_head()
    level, text = told("web app's tables")
    assert level == "fault"
    assert (
        'Have their owner run: SET search_path TO "changed later"; ALTER TABLE job ALTER COLUMN team DROP'
        in text
    )


def test_what_a_column_of_the_web_app_refuses_is_rejected_alone(make: Make) -> None:
    """An order without a user, an unknown command or a path that is too long costs nothing but itself."""
    change = """
        CREATE TYPE command AS ENUM ('authorizationScope', 'GROUP_PROJECT_DISCOVERY', 'users', 'group', 'groupMembers',
            'groupProjects', 'groupIssues', 'project', 'issues', 'mergeRequests', 'branches', 'pipelines');
        DROP INDEX job_full_path_branch_command_key, "job_command_accountId_key";
        ALTER TABLE job ALTER command DROP DEFAULT, ALTER command TYPE command USING command::command;
        ALTER TABLE area ALTER full_path TYPE varchar(20);
        ALTER TABLE job ALTER full_path TYPE varchar(20), ALTER "userId" SET NOT NULL
    """
    world = make(Case("strict", "agreed", change))
    migrate()

    world.submit(
        world.order(namespace_path="lab/other"),
        world.order(namespace_path="lab/tool", user_id="ann"),
        world.order(namespace_path="lab/tool", user_id="ann", command="timelogs"),
    )
    scoped = world.order(command="GROUP_PROJECT_DISCOVERY", namespace_path="lab", user_id="ann")
    world.submit(scoped)
    assert [reason for _, reason in world.rejections()] == ["refused_by_database"] * 2
    crawler = world.crawler(capacity=2)
    world.assign()
    order = world.scalar("SELECT crawler_job_id FROM crawler_order WHERE command = 'GROUP_PROJECT_DISCOVERY'")
    crawler.sends(
        "jobs_discovered",
        order,
        discovered_jobs=[project("lab/tool", 1), project("lab/" + "long" * 9, 2)],
        discovery_summary={},
    )

    assert world.rows("SELECT full_path FROM area") == [("lab/tool",)]
    assert [reason for _, reason in world.rejections()] == ["refused_by_database"] * 3


def test_the_repair_of_times_writes_no_table_again(make: Make) -> None:
    """A large table is not locked for long; only its indexes are built."""
    world = make(Case("repaired", "drizzle"))
    with pytest.raises(IllegalRequestError) as raised:
        migrate()
    file = "SELECT pg_relation_filenode('job'), (SELECT access_token_expires_at::text FROM account)"
    before = world.row(file)

    world.rows(str(raised.value).partition("must first run: ")[2])

    assert world.row(file) == (before[0], f"{before[1]}+00")
    migrate()


def test_an_older_component_without_zones_is_carried_over(make: Make) -> None:
    """Its times are UTC, too, and its JSON becomes jsonb."""
    older = OLDER_COMPONENT.replace("timestamptz", "timestamp").replace("jsonb", "json")
    world = make(Case("an older component", "agreed", settings=UTC))
    world.rows("""
        INSERT INTO job (id, status, command, full_path, "accountId")
        SELECT 'old-' || status, status, 'group', status, 'acc'
          FROM unnest(ARRAY['queued', 'running', 'finished', 'failed']) status
    """)
    with engine().begin() as connection:
        connection.exec_driver_sql(older)

    migrate()

    due = "scheduled_at <= now() AND scheduled_at > now() - interval '2 hours'"
    assert world.row(f"SELECT {due}, data FROM job_queue WHERE id = 'q2'") == (True, {"entity_id": "7"})
