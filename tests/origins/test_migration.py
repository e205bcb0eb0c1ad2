"""What the migration binds: accounts whose jobs all name one GitLab. `crawlyard migrate` lists the others."""

import pytest

from console.commands import migrate as command
from persistence.migrations.run import Migrated, head_revision
from support.command import Run
from support.worlds.older_databases import WEB_APP
from support.worlds.world import Published, World

OURS = "https://gitlab.example.org/api/graphql"

JOBS: dict[str, list[str | None]] = {
    "agree": [OURS, "HTTPS://GitLab.example.org:443/", None],
    "differ": [OURS, "https://git.example.net/api/graphql"],
    "empty": [None],
    "half": [OURS, "https://@evil.example:notaport"],
    "metadata": ["http://169.254.169.254/api/graphql"],
    "plain": ["http://gitlab.example.org/x/api/graphql"] * 2,
    "ports": [OURS, "https://gitlab.example.org:8443/api/graphql"],
}
"""The URLs of the jobs of each account; "idle" has none, "acc" those of WEB_APP."""


@pytest.fixture
def older(empty_database: str, published: Published) -> World:
    """A web app's database that was never migrated."""
    world = World(published)
    world.rows(WEB_APP)
    world.rows(
        "INSERT INTO account (id, account_id, provider_id, user_id)"
        " SELECT id, id, 'gitlab-onprem', 'ann' FROM unnest(CAST(:ids AS text[])) AS new(id)",
        ids=[*JOBS, "idle"],
    )
    for account, urls in JOBS.items():
        world.rows(
            'INSERT INTO job (id, command, full_path, "accountId", "gitlabGraphQLUrl")'
            " SELECT :id || place, 'issues', :id || place, :id, url"
            " FROM unnest(CAST(:urls AS text[])) WITH ORDINALITY AS job(url, place)",
            id=account,
            urls=urls,
        )
    return world


def test_migrate_binds_accounts_whose_jobs_agree_and_lists_the_others(
    older: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that is http: it is where their token has gone so far. The list says why the others are not."""
    out = run("migrate").out

    assert older.rows("SELECT account_id, origin, bound_by FROM account_origin ORDER BY 1") == [
        ("acc", "https://gitlab.example.org", "migration"),
        ("agree", "https://gitlab.example.org", "migration"),
        ("plain", "http://gitlab.example.org/x", "migration"),
    ]
    listed = out[out.index("6 accounts are bound to no GitLab") :].splitlines()
    assert [line.split(maxsplit=1) for line in listed[1:7]] == [
        ["differ", "its jobs name several GitLabs"],
        ["half", "a job's URL cannot be read"],
        ["metadata", "a job's URL cannot be read"],
        ["ports", "its jobs name several GitLabs"],
        ["empty", "no job names a GitLab"],
        ["idle", "no job names a GitLab"],
    ]
    assert "`crawlyard accounts bind URL --account ID`" in listed[7]

    assert "bound to no GitLab" not in run("migrate").out
    assert run("migrate", "--json").json["unbound"] is None
    monkeypatch.setattr(command, "migrate", lambda: Migrated("0005", head_revision()))
    older.rows(
        "INSERT INTO account (id, account_id, provider_id, user_id)"
        " SELECT 'later' || n, n, 'gitlab-onprem', 'ann' FROM generate_series(10, 29) AS n"
    )
    unbound = run("migrate", "--json").json["unbound"]
    assert (unbound["count"], len(unbound["first"])) == (26, 20)
    assert unbound["first"][:2] == [
        {"account_id": "differ", "why": "jobs_disagree"},
        {"account_id": "half", "why": "host_unparsable"},
    ]
    assert unbound["first"][-1] == {"account_id": "later23", "why": "no_job"}
    assert "… and 6 more" in run("migrate").out
