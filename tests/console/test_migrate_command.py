"""`crawlyard migrate` and `adopt`: what they change, and what they leave alone."""

import psycopg

from support.command import Run, Sql
from support.worlds.older_databases import OLDER


def test_migrate_prints_both_revisions(empty_database: str, run: Run) -> None:
    """The first time from nothing, then never again."""
    assert run("migrate", "--json").json["from"] is None
    assert run("migrate").out == "The database is up to date, at revision 0003.\n"


def test_a_newer_schema_is_left_to_a_newer_version(empty_database: str, run: Run) -> None:
    """What a later version made is neither worked with nor changed."""
    run("migrate")
    with psycopg.connect(empty_database) as connection:
        connection.execute("UPDATE crawlyard_version SET version_num = '9999'")
    for command in ("migrate", "adopt"):
        output = run(command)
        assert (output.code, len(output.err.splitlines())) == (2, 1)
        assert "newer Crawlyard" in output.err
    assert run("health").code == 1


"""Six older jobs and four held entries; a seventh job is ours, and held for a reason of its own."""


def test_adopt_changes_nothing_without_confirmation(sql: Sql, run: Run) -> None:
    """Without --yes and without a terminal it only says what it would release."""
    sql(OLDER)

    output = run("adopt")

    assert output.code == 0
    assert output.out.splitlines()[1:] == [
        "  finished                               2",
        "  paused                                 2",
        "  queued                                 2",
        "Still to be crawled: 2 jobs.",
        "Held in the queue of an older component: 2 entries.",
        "Nothing was changed; --yes releases them.",
    ]
    assert sql("SELECT count(*) FROM adoption WHERE adopted_from IS NOT NULL") == [(1,)]
    assert sql("SELECT count(*) FROM job_queue WHERE held") == [(5,)]


def test_adopt_releases_what_an_older_component_had_queued(sql: Sql, run: Run) -> None:
    """Held entries of queued jobs are let go; what the web app paused, and what is ours, is not."""
    sql(OLDER)

    output = run("adopt", "--yes", "--json")

    assert output.json["adopted"] is True
    assert output.json["left_alone"]["held_entries"] == 2
    assert sql("SELECT adopted_from FROM adoption") == [(None,)]
    assert sql("SELECT id FROM job_queue WHERE held ORDER BY id") == [("ours",), ("paused1",), ("paused2",)]
    assert run("adopt").out == "There is nothing to adopt: all jobs are ours.\n"


def test_migrate_reports_unadopted_jobs(sql: Sql, run: Run) -> None:
    """Until it is adopted, every migrate counts it again."""
    sql(OLDER)
    assert run("migrate").out.endswith("They are left alone until `crawlyard adopt`.\n")
    assert run("migrate", "--json").json["left_alone"]["jobs"] == {"finished": 2, "paused": 2, "queued": 2}
