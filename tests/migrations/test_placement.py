"""The tables are where DATABASE_URL's schema or search_path says, and no second set is ever made beside them."""

from collections.abc import Callable

import psycopg
import pytest

from persistence.db.engine import engine
from persistence.events.cursor import BEGINNING
from persistence.events.subscription import Subscription
from persistence.exceptions import IllegalRequestError
from persistence.migrations.head import SchemaError, check_head
from persistence.migrations.placement import WEB_APP, read_placement
from persistence.migrations.run import migrate
from persistence.settings import settings
from support.command import Run
from support.engines import forget_engine
from support.worlds.older_databases import WEB_APP as TABLES
from support.worlds.world import Published, World

UseUrl = Callable[[str], None]


@pytest.fixture
def use(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> UseUrl:
    """Add parameters to DATABASE_URL."""

    def use(parameters: str) -> None:
        monkeypatch.setenv("DATABASE_URL", f"{empty_database}?{parameters}")
        monkeypatch.delenv("CRAWLYARD_DIRECT_DATABASE_URL", raising=False)
        settings.cache_clear()
        forget_engine()

    return use


@pytest.fixture
def app(empty_database: str) -> None:
    """The web app's tables, in the schema "App"."""
    with psycopg.connect(empty_database) as admin:
        admin.execute('CREATE SCHEMA "App"')
        admin.execute('SET search_path TO "App"')
        admin.execute(TABLES)


def schemas_of_tables() -> dict[str, list[str]]:
    """All schemas, on the path or not, of each table that the web app has."""
    with engine().connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT tablename, array_agg(schemaname::text ORDER BY schemaname) FROM pg_tables"
            " WHERE schemaname !~ '^(pg_|information_schema)' GROUP BY 1"
        )
        return {name: schemas for name, schemas in rows if name in WEB_APP}


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("parameters", ["schema=App", "options=-csearch_path%3Dpublic,%22App%22"])
def test_tables_are_found_where_the_url_says(parameters: str, use: UseUrl, published: Published) -> None:
    """`?schema=` is the search_path of all that we do, and without it the whole path counts."""
    use(parameters)
    migrate()
    check_head()

    world = World(published)
    world.submit(world.order(user_id="ann"))
    world.crawler()
    world.assign()

    assert world.scalar("SELECT count(*) FROM crawler_order") == 1
    with Subscription(BEGINNING) as subscription:
        assert next(iter(subscription.so_far())).type == "job_created"
    assert schemas_of_tables() == {name: ["App"] for name in WEB_APP}
    with engine().connect() as connection:
        assert read_placement(connection).ours == (["App"] if parameters.startswith("schema") else ["public"])


@pytest.mark.usefixtures("app")
def test_no_second_table_is_made_beside_one_in_another_schema(use: UseUrl, run: Run) -> None:
    """`migrate` names the schema in which they are, and the remedy, and changes nothing."""
    use("application_name=x")

    output = run("migrate")

    assert output.code != 0
    assert output.err.count("\n") == 1
    assert (
        '"account", "area", "area_authorization", "job", "job_area", "user", but schema App has' in output.err
    )
    assert "Add ?schema=App to DATABASE_URL" in output.err
    assert schemas_of_tables() == {name: ["App"] for name in WEB_APP}


@pytest.mark.usefixtures("app")
def test_tables_in_two_schemas_need_a_search_path(empty_database: str, use: UseUrl) -> None:
    """One schema cannot name both; with the path that the refusal prints, all are found."""
    with psycopg.connect(empty_database) as admin:
        admin.execute('CREATE SCHEMA "Auth"')
        admin.execute('ALTER TABLE "App"."user" SET SCHEMA "Auth"')
    use("schema=App")

    with pytest.raises(IllegalRequestError, match='finds no "user", but schema Auth has') as raised:
        migrate()

    assert 'ALTER ROLE … SET search_path TO "App", "Auth".' in str(raised.value)
    use("options=-csearch_path%3D%22App%22,%22Auth%22")
    migrate()
    check_head()
    assert schemas_of_tables() == {name: ["App"] for name in WEB_APP} | {"user": ["Auth"]}


@pytest.mark.usefixtures("app")
def test_our_own_tables_are_not_made_twice_for_one_job_table(use: UseUrl) -> None:
    """Where they are beside the web app's schema, naming that schema alone would hide them."""
    use("options=-csearch_path%3Dpublic,%22App%22")
    migrate()
    use("schema=App")

    with pytest.raises(SchemaError, match=r"never migrated: .* Schema public has Crawlyard's tables"):
        check_head()
    with pytest.raises(IllegalRequestError, match="for this job table are in schema public"):
        migrate()


def test_a_table_of_an_extension_is_not_the_web_apps(empty_database: str) -> None:
    """pg_cron has a table `job` in a schema of its own."""
    with psycopg.connect(empty_database) as admin:
        admin.execute("CREATE SCHEMA cron; CREATE TABLE cron.job (jobid bigint)")
        admin.execute("ALTER EXTENSION plpgsql ADD TABLE cron.job")

    migrate()

    assert schemas_of_tables()["job"] == ["cron", "public"]


def test_a_schema_that_does_not_exist_is_named(use: UseUrl) -> None:
    """A path that leads nowhere is neither an empty database nor an internal error."""
    use("schema=ap%27p")

    with pytest.raises(IllegalRequestError, match=r'search_path \("ap\'p"\) names no schema that exists'):
        migrate()
