"""`crawlyard migrate` and `crawlyard adopt`: what they change, and what they leave alone."""

import psycopg

from persistence.migrations.run import head_revision
from support.command import Run, Sql
from support.worlds.older_databases import OLDER


def test_migrate_prints_both_revisions(empty_database: str, run: Run) -> None:
    """The first run migrates from nothing, the second finds the database up to date."""
    first = run("migrate", "--json").json
    assert (first["from"], first["unbound"]) == (None, {"count": 0, "first": []})
    assert run("migrate").out == f"The database is up to date, at revision {head_revision()}.\n"


def test_a_newer_schema_is_refused(empty_database: str, run: Run) -> None:
    """A schema that a later version created is neither used nor changed."""
    run("migrate")
    with psycopg.connect(empty_database) as connection:
        connection.execute("UPDATE crawlyard_version SET version_num = '9999'")
    for command in ("migrate", "adopt"):
        output = run(command)
        assert (output.code, len(output.err.splitlines())) == (2, 1)
        assert "newer Crawlyard" in output.err
    assert run("health").code == 1


def test_adopt_changes_nothing_without_confirmation(sql: Sql, run: Run) -> None:
    """Without --yes and without a terminal, adopt only prints what it would release."""
    sql(OLDER)

    output = run("adopt")

    assert output.code == 0
    assert output.out.splitlines()[1:] == [
        "  finished                               2",
        "  paused                                 2",
        "  queued                                 2",
        "Still to be crawled: 2 jobs.",
        "Entries parked in the queue of an older component: 2.",
        "Nothing was changed. Pass --yes to release them.",
    ]
    assert sql("SELECT count(*) FROM adoption WHERE adopted_from IS NOT NULL") == [(1,)]
    assert sql("SELECT count(*) FROM job_queue WHERE held") == [(5,)]


def test_adopt_releases_what_an_older_component_had_queued(sql: Sql, run: Run) -> None:
    """Parked entries of queued jobs are released; those of paused jobs and of Crawlyard's own jobs are not."""
    sql(OLDER)

    output = run("adopt", "--yes", "--json")

    assert output.json["adopted"] is True
    assert output.json["left_alone"]["held_entries"] == 2
    assert sql("SELECT adopted_from FROM adoption") == [(None,)]
    assert sql("SELECT id FROM job_queue WHERE held ORDER BY id") == [("ours",), ("paused1",), ("paused2",)]
    assert run("adopt").out == "Nothing to adopt: every job is managed by Crawlyard.\n"


def test_migrate_reports_unadopted_jobs(sql: Sql, run: Run) -> None:
    """Until the jobs are adopted, every migrate reports them again."""
    sql(OLDER)
    assert run("migrate").out.endswith(
        "Crawlyard leaves them alone. Run `crawlyard adopt` to release them.\n"
    )
    assert run("migrate", "--json").json["left_alone"]["jobs"] == {"finished": 2, "paused": 2, "queued": 2}
