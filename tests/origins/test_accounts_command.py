"""`crawlyard accounts`: the GitLab of each account, listed and changed."""

import pytest

from support.command import CommandOutput, Run
from support.worlds.world import World

OURS = "https://gitlab.example.org"
OTHER = "https://git.example.net"


def findings(output: CommandOutput) -> dict[str, str]:
    """The levels of the findings by what was examined."""
    return {finding["about"]: finding["level"] for finding in output.json["findings"]}


def origins(world: World) -> dict[str, tuple[str, str]]:
    """What each account is bound to, and by what."""
    rows = world.rows("SELECT account_id, origin, bound_by FROM account_origin")
    return {account: (origin, by) for account, origin, by in rows}


@pytest.mark.usefixtures("broker")
def test_an_account_is_bound_to_another_gitlab(world: World, run: Run) -> None:
    """Its attempts at the former one end, and those of its jobs that are at the new one are queued."""
    crawler, _ = world.crawler_with_jobs()
    (job,) = world.jobs(1, gitlab_host=OTHER)

    assert run("accounts", "bind", "HTTPS://Git.example.net:443/", "--account", "acc").out == (
        "1 account bound to https://git.example.net.\n"
    )

    assert origins(world) == {"acc": (OTHER, "operator")}
    world.deliver("upkeep.reconcile")
    assert crawler.orders() == []
    world.deliver("upkeep.reconcile", more=True)
    world.assign()
    assert [url for (url,) in world.rows('SELECT "gitlabUrl" FROM crawler_order')] == [OTHER]
    assert world.attempts(job)


@pytest.mark.usefixtures("broker")
def test_all_accounts_of_a_gitlab_are_bound_to_another(world: World, run: Run) -> None:
    """Those of others stay where they are."""
    for account, host in (("a", OURS), ("b", OURS), ("c", OTHER)):
        world.jobs(1, account_id=world.account(account), gitlab_host=host)

    bound = run("accounts", "bind", "https://new.example.org/gitlab", "--from", OURS, "--json").json

    assert bound == {"origin": "https://new.example.org/gitlab", "accounts": ["a", "b"], "missing": []}
    assert origins(world)["c"] == (OTHER, "first_job")
    assert origins(world)["a"] == ("https://new.example.org/gitlab", "operator")


@pytest.mark.usefixtures("broker")
def test_unknown_accounts_and_urls_are_refused(world: World, run: Run) -> None:
    """Nothing is bound then; the exit code says so."""
    missing = run("accounts", "bind", OURS, "--account", "nobody")

    assert (missing.code, missing.err) == (1, "There is no account nobody.\n")
    assert run("accounts", "bind", "http://169.254.169.254", "--account", "acc").code == 2
    assert run("accounts", "bind", OURS).code == 2
    assert origins(world) == {}


def test_accounts_are_listed_with_what_is_held(world: World, run: Run) -> None:
    """All of them, those of one GitLab, or those that are bound to none."""
    world.jobs(1)
    world.jobs(2, gitlab_host=OTHER)
    world.jobs(1, account_id=world.account("other"), gitlab_host="http://plain.example.org")

    listed = {one["account_id"]: one for one in run("accounts", "list", "--json").json}
    assert (listed["acc"]["origin"], listed["acc"]["bound_by"], listed["acc"]["held"]) == (
        OURS,
        "first_job",
        2,
    )
    assert (listed["other"]["origin"], listed["other"]["held"]) == (None, 1)
    assert [one["account_id"] for one in run("accounts", "list", "--unbound", "--json").json] == ["other"]
    assert [one["account_id"] for one in run("accounts", "list", "--origin", OURS, "--json").json] == ["acc"]
    assert OURS in run("accounts", "list").out
    assert run("accounts", "list", "--origin", OTHER).out == "No accounts match.\n"


@pytest.mark.usefixtures("broker")
def test_the_doctor_says_where_tokens_may_go(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It warns while no list is set, of what is held or bound elsewhere, of older workers, and of unfinished moves."""
    world.crawler_with_jobs()
    found = findings(run("doctor", "--json"))
    assert (found["GitLabs"], found["older workers"], "held jobs" in found) == ("warning", "ok", False)

    monkeypatch.setenv("CRAWLYARD_ALLOWED_ORIGINS", OURS)
    world.reload_settings()
    assert findings(run("doctor", "--json"))["GitLabs"] == "ok"

    world.bind(OTHER)
    world.jobs(1)
    world.rows("UPDATE job_assignment_mapping SET gitlab_url = NULL")
    world.rows(
        "INSERT INTO gitlab_alias (origin, moved_to) VALUES ('https://x.example', 'https://y.example')"
    )
    found = findings(run("doctor", "--json"))
    assert [found[about] for about in ("GitLabs", "older workers", "held jobs", "moved GitLabs")] == [
        "warning"
    ] * 4
