"""`crawlyard gitlab moved`: a GitLab has another URL, and everything of it goes on under the new one."""

from typing import Any

import pytest

from persistence.exceptions import IllegalRequestError
from persistence.origins import aliases
from support.command import Run
from support.worlds.discoveries import Discoverer, group, project
from support.worlds.tokens import Tokens
from support.worlds.world import World
from tasks.maintenance import gitlab_names
from tasks.maintenance.gitlab_names import Carried, carry_names, check_move, move_gitlab

OLD = "http://gitlab.example.org:8080"
NEW = "https://git.example.net/gitlab"
HOST = "git.example.net/gitlab"
TABLES = ("account_origin", "job_queue", "job_assignment_mapping", "area_host")


@pytest.fixture
def world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Its account is bound to the GitLab that will move."""
    monkeypatch.setattr(gitlab_names, "sleep", lambda _: None)
    world.bind(OLD)
    return world


def move(former: str = OLD, origin: str = NEW) -> Carried:
    """Move the GitLab."""
    return move_gitlab(former, origin, lambda _: None, lambda _: None)


def names(world: World) -> set[str]:
    """Every name of a GitLab that is stored."""
    return {
        name
        for (name,) in world.rows(
            "SELECT origin FROM account_origin UNION SELECT host FROM job_queue UNION SELECT host FROM area_host"
            " UNION SELECT host FROM job_assignment_mapping WHERE completed_at IS NULL"
            " UNION SELECT host FROM live_count GROUP BY host HAVING sum(live) <> 0"
            " UNION SELECT identity::jsonb ->> 1 FROM job_queue"
        )
        if name
    }


def at_work(world: World) -> Discoverer:
    """A discovery that runs, what it has found, and a job that waits."""
    discoverer = Discoverer.at_work(world, host=OLD)
    discoverer.finds(group("team", 1), project("team/tool", 42))
    return discoverer


def test_everything_goes_on_under_the_new_name(world: World) -> None:
    """Nothing is stored under the former one; the rows of `job` are as the web app wrote them."""
    at_work(world)
    jobs = world.rows("SELECT * FROM job ORDER BY id")

    carried = move()

    assert carried == Carried(accounts=1, jobs=len(jobs), areas=2)
    assert names(world) == {NEW, HOST, f"{NEW}/api/graphql"}
    assert world.rows("SELECT * FROM job ORDER BY id") == jobs
    assert world.row("SELECT origin, moved_to, carried_at IS NULL FROM gitlab_alias") == (OLD, NEW, False)


def test_discoveries_by_either_url_find_the_same_areas_and_jobs(world: World) -> None:
    """Before, all that was found was rejected as an area of another host, for ever."""
    at_work(world)
    jobs = world.scalar("SELECT count(*) FROM job")
    move()

    for account, host in (("b", NEW), ("c", OLD)):
        Discoverer.at_work(world, account=world.account(account), host=host).finds(
            group("team", 1), project("team/tool", 42)
        )

    assert world.rejections() == []
    assert world.scalar("SELECT count(*) FROM job") == jobs + 2  # the discoveries themselves
    assert dict(iter(map(tuple, world.rows("SELECT account_id, origin FROM account_origin")))) == {
        "acc": NEW,
        "b": NEW,
        "c": NEW,
    }


def test_orders_name_the_new_url_and_attempts_at_the_former_one_end(world: World) -> None:
    """The jobs of ended attempts are queued again, whatever their URL."""
    discoverer = at_work(world)
    move()

    world.deliver("upkeep.reconcile", more=True)
    assert discoverer.crawler.orders() == []
    world.assign()

    assert world.rows('SELECT DISTINCT "gitlabUrl" FROM crawler_order') == [(NEW,)]
    assert world.events("job_held") == []


def test_tokens_are_refreshed_at_the_new_url_by_the_former_provider(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The OAuth client has moved along, and the setting may follow later."""
    monkeypatch.setenv("CRAWLYARD_OAUTH_PROVIDERS", tokens.gitlab.providers().replace(tokens.gitlab.url, OLD))
    world.reload_settings()
    world.jobs(1, gitlab_host=OLD)
    tokens.gitlab.expire()
    tokens.outlive()
    world.crawler()
    world.assign()

    move(origin=tokens.gitlab.url)
    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.works()


def test_it_goes_on_where_it_was_interrupted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alias is noted first, so nothing is wrong in between; the second run carries the rest, a third nothing."""
    at_work(world)
    jobs = world.scalar("SELECT count(*) FROM job")

    def interrupt(_: Carried) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move_gitlab(OLD, NEW, interrupt, lambda _: None)
    assert world.row("SELECT carried_at IS NULL FROM gitlab_alias") == (True,)
    Discoverer.at_work(world, account=world.account("b"), host=NEW).finds(project("team/tool", 42))
    assert world.rejections() == []

    assert move() == Carried(accounts=0, jobs=jobs, areas=1)
    assert move() == Carried()
    assert names(world) == {NEW, HOST, f"{NEW}/api/graphql"}


def test_chunks_cover_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a transaction of its own, and is reported."""
    for chunk in ("CHUNK_ACCOUNTS", "CHUNK_ENTRIES", "CHUNK_JOBS", "CHUNK_AREAS"):
        monkeypatch.setattr(gitlab_names, chunk, 2)
    for n in range(3):
        world.bind(OLD, world.account(f"a{n}"))
    at_work(world)
    reported: list[Any] = []

    carried = move_gitlab(OLD, NEW, lambda one: reported.append(one.jobs), lambda _: None)

    assert (carried.accounts, carried.areas) == (4, 2)
    assert len(reported) > 6
    assert names(world) == {NEW, HOST, f"{NEW}/api/graphql"}


def test_a_gitlab_moves_on_and_back(world: World) -> None:
    """None is an alias of an alias, and the first URL names it again in the end."""
    at_work(world)
    move()
    move(NEW, "https://third.example.org")
    assert {row.moved_to for row in world.rows("SELECT moved_to FROM gitlab_alias")} == {
        "https://third.example.org"
    }
    assert names(world) == {
        "https://third.example.org",
        "third.example.org",
        "https://third.example.org/api/graphql",
    }

    move("https://third.example.org", OLD)

    assert {row.moved_to for row in world.rows("SELECT moved_to FROM gitlab_alias")} == {OLD}
    assert names(world) == {OLD, "gitlab.example.org:8080", f"{OLD}/api/graphql"}


def test_two_jobs_that_are_one_by_now_keep_one_identity(world: World) -> None:
    """The web app has ordered the same at the new URL already: neither is lost, and a third order finds one."""
    world.bind(NEW, world.account("b"))
    (first,) = world.jobs(1, gitlab_host=OLD, namespace_path="team/tool")
    (second,) = world.jobs(1, gitlab_host=NEW, namespace_path="team/tool", account_id="b")

    move()

    assert sorted(world.entry(job).identity is None for job in (first, second)) == [False, True]
    world.jobs(1, gitlab_host=NEW, namespace_path="team/tool", account_id="b")
    assert world.scalar("SELECT count(*) FROM job") == 2


def test_held_jobs_of_the_new_url_are_released(world: World) -> None:
    """The web app has written the new URL before the operator said so."""
    (job,) = world.jobs(1, gitlab_host=NEW)
    world.crawler()
    assert world.entry(job).hold_reason == "origin_mismatch"

    move()
    world.deliver("upkeep.reconcile", more=True)
    world.assign()

    assert world.attempts(job)


def test_every_process_knows_it_within_seconds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that begins later reads the aliases anew; one that begins at once does not."""
    world.rows("INSERT INTO gitlab_alias (origin, moved_to) VALUES (:old, :new)", old=OLD, new=NEW)
    world.jobs(1, gitlab_host=OLD)
    assert world.scalar("SELECT host FROM job_queue") == "gitlab.example.org:8080"

    monkeypatch.setattr(aliases, "AGE_S", 0.0)
    (job,) = world.jobs(1, gitlab_host=OLD)

    assert world.entry(job).host == HOST


@pytest.mark.usefixtures("broker")
def test_the_command_says_what_it_did(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As text with its progress, and as JSON."""
    monkeypatch.setattr("tasks.maintenance.gitlab_names.AGE_S", 0.0)
    at_work(world)

    text = run("gitlab", "moved", "HTTP://GitLab.example.org.:8080/api/graphql", NEW)
    again = run("gitlab", "moved", OLD, NEW, "--json")

    jobs = world.scalar("SELECT count(*) FROM job")
    assert text.out.splitlines()[-1] == f"Done: 1 account, {jobs} jobs, 2 areas carried over."
    assert "so far" in text.err
    assert [one["origin"] for one in run("accounts", "list", "--origin", OLD, "--json").json] == [NEW]
    assert again.json == {
        "moved": OLD,
        "origin": NEW,
        "carried": {"accounts": 0, "jobs": 0, "areas": 0, "cancelled": 0},
    }


@pytest.mark.parametrize(
    ("former", "origin", "why"),
    [
        ("gitlab.example.org", NEW, "is not the URL of a GitLab"),
        (OLD, "https://user@git.example.net", "is not the URL of a GitLab"),
        (OLD, f"{OLD}/api/graphql/", "are one GitLab"),
        ("https://gitlab.com", NEW, "does not move"),
        (OLD, "http://git.example.net", "is not https"),
    ],
)
def test_what_is_no_move_is_refused(world: World, former: str, origin: str, why: str) -> None:
    """Before anything is noted."""
    with pytest.raises(IllegalRequestError, match=why):
        check_move(former, origin)


def test_a_gitlab_cannot_move_to_where_another_one_was(world: World) -> None:
    """The text names where that one is now."""
    move()

    with pytest.raises(IllegalRequestError, match=f"{OLD} has moved to {NEW}"):
        move("https://third.example.org", OLD)


@pytest.mark.parametrize(
    "url", ["https://GitLab.example.org./api/graphql", "https://gitlab.example.org:443/api/graphql"]
)
def test_migrate_gives_old_spellings_their_name(world: World, url: str) -> None:
    """As a worker of 0.4.1 has stored them: host, identity, attempt, count and area."""
    world.bind("https://gitlab.example.org")
    discoverer = Discoverer.at_work(world)
    discoverer.finds(project("team/tool", 42))
    spelled = url.removeprefix("https://").removesuffix("/api/graphql")
    world.rows('UPDATE job SET "gitlabGraphQLUrl" = :url', url=url)
    world.rows(
        "UPDATE job_queue SET host = :host, identity = replace(identity, 'gitlab.example.org', :host)",
        host=spelled,
    )
    for table in ("job_assignment_mapping", "area_host", "live_count"):
        world.rows(f"UPDATE {table} SET host = :host", host=spelled)

    carried = carry_names()

    assert carried == Carried(jobs=world.scalar("SELECT count(*) FROM job"), areas=1)
    assert names(world) == {
        "https://gitlab.example.org", "gitlab.example.org", "https://gitlab.example.org/api/graphql"
    }  # fmt: skip
    assert carry_names() == Carried()


@pytest.mark.parametrize("status", ["queued", "running"])
def test_jobs_under_two_urls_of_one_gitlab_are_joined(world: World, status: str) -> None:
    """As jobs under two spellings of a path are: the running one stays, else the newest; both were crawled."""
    world.account("b")
    older, newer = (
        world.insert_job(
            full_path="team/tool",
            accountId=account,
            command="issues",
            created_at=created,
            gitlabGraphQLUrl=f"{host}/api/graphql",
        )
        for account, created, host in (
            ("acc", "2026-05-04T03:02:01Z", OLD),
            ("b", "2026-05-04T03:02:02Z", NEW),
        )
    )
    for id_ in (older, newer):
        world.deliver("jobs.enqueue", job_ids=[id_])
    if status == "running":
        crawler = world.crawler(capacity=1)
        world.assign()
        crawler.sends("job_started", *crawler.orders())

    carried = move()

    kept, ended = (older, newer) if status == "running" else (newer, older)
    assert [world.job(id_).status for id_ in (kept, ended)] == [status, "cancelled"]
    assert carried.cancelled == 1
    assert world.entry(ended).error == "duplicate_url"
    (event,) = [one for one in world.events("job_updated") if "same_as" in one.payload]
    assert event.payload == {"status": "cancelled", "reason": "duplicate_url", "same_as": kept}
    world.submit(world.order(namespace_path="team/tool", command="issues", gitlab_host=NEW))
    assert world.scalar("SELECT count(*) FROM job") == 2
    assert move() == Carried()


def test_moves_are_listed_and_told_once(world: World, run: Run) -> None:
    """By the command, the last one first, and by an event for each move that is new."""
    assert run("gitlab", "list").out == "No GitLab has moved.\n"
    move()
    move()
    move("https://git.other.example", "https://code.other.example")
    world.rows("UPDATE gitlab_alias SET carried_at = NULL WHERE origin = :origin", origin=OLD)

    first, last = run("gitlab", "list").out.splitlines()
    assert first.endswith("  https://git.other.example is https://code.other.example")
    assert last.endswith(f"  {OLD} is {NEW}, not all carried over yet: run `crawlyard gitlab moved` again")
    listed = run("gitlab", "list", "--json").json
    assert [(one["origin"], one["moved_to"], one["carried_at"] is None) for one in listed] == [
        ("https://git.other.example", "https://code.other.example", False),
        (OLD, NEW, True),
    ]
    assert [event.payload for event in world.events("gitlab_moved")] == [
        {"origin": OLD, "moved_to": NEW},
        {"origin": "https://git.other.example", "moved_to": "https://code.other.example"},
    ]
