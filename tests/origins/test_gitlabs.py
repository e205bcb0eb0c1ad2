"""A GitLab has one name, however the web app writes its URL; rows of `job` keep what the web app wrote."""

import json

import pytest
from sqlalchemy import text

from console.simulator.gitlab import GitLab
from persistence.db.engine import engine
from persistence.jobs.identity import identity
from persistence.jobs.jobs import NewJob
from persistence.schema.gitlabs import host_of, is_same, known_host
from persistence.schema.ids import JobId
from support.worlds.discoveries import Discoverer, project
from support.worlds.tokens import Tokens
from support.worlds.world import World

OURS = "https://gitlab.example.org/api/graphql"
SPELLINGS = [
    "https://GitLab.example.org/api/graphql",
    "https://gitlab.example.org:443/api/graphql",
    "https://gitlab.example.org./api/graphql/",
    "HTTPS://gitlab.example.org/api/graphql",
    " https://gitlab.example.org/api/graphql",
]


def identities(world: World) -> list[str | None]:
    """The identities of all entries."""
    return [one for (one,) in world.rows("SELECT identity FROM job_queue ORDER BY id")]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (None, ""),
        *((url, "gitlab.example.org") for url in [OURS, *SPELLINGS]),
        ("http://gitlab.example.org:80", "gitlab.example.org"),
        ("http://gitlab.example.org:8080", "gitlab.example.org:8080"),
        ("https://example.org/GitLab/api/graphql", "example.org/GitLab"),
        ("https://[2001:DB8::1]:443/x", "[2001:db8::1]/x"),
        ("ftp://a@b/x", "a@b"),
        ("nothing", ""),
    ],
)
def test_a_gitlab_has_one_key(url: str | None, host: str) -> None:
    """Host, port and prefix, as 0.4.1 wrote it for a plain URL; the key of a key is itself."""
    assert host_of(url) == host
    assert known_host(host) == host


@pytest.mark.parametrize("url", SPELLINGS)
def test_spellings_are_the_same_gitlab_and_other_gitlabs_are_not(url: str) -> None:
    """A prefix, another port and http name another one."""
    assert is_same(url, OURS)
    assert not is_same(url, "https://gitlab.example.org/x/api/graphql")
    assert not is_same(url, "https://gitlab.example.org:8443/api/graphql")
    assert not is_same(url, None)


def test_identities_are_written_as_workers_of_0_4_1_write_them(database: str) -> None:
    """They are compared byte by byte, in a unique index."""
    job = NewJob(JobId("1"), "issues", 'a/"b\\\n\x1f\x7fü🦊', "m", "acc", None, None, OURS)

    with engine().connect() as connection:
        theirs = connection.scalar(
            text("SELECT jsonb_build_array(CAST(:c AS text), CAST(:u AS text), CAST(:p AS text), 'm')::text"),
            {"c": job.command, "u": OURS, "p": job.full_path},
        )

    assert identity(job) == theirs


def test_each_spelling_finds_the_job_of_another_one(world: World) -> None:
    """What the web app inserted is found by an order, and the row keeps its URL."""
    jobs = [world.insert_job(full_path=f"team/{n}", gitlabGraphQLUrl=url) for n, url in enumerate(SPELLINGS)]
    world.deliver("jobs.enqueue", job_ids=jobs)

    world.submit(*(world.order(namespace_path=f"team/{n}") for n in range(len(SPELLINGS))))

    assert {event.job_id for event in world.events("job_created") if event.payload["existing"]} == set(jobs)
    assert [world.job(job).gitlabGraphQLUrl for job in jobs] == SPELLINGS
    assert {world.entry(job).host for job in jobs} == {"gitlab.example.org"}
    assert world.scalar("SELECT count(*) FROM job") == len(jobs)


def test_children_of_each_spelling_are_the_same_jobs(world: World) -> None:
    """Two accounts discover one project; it is crawled once, and is an area of one GitLab."""
    parent = world.insert_job(
        command="GROUP_PROJECT_DISCOVERY", full_path=None, gitlabGraphQLUrl=SPELLINGS[0]
    )
    world.deliver("jobs.enqueue", job_ids=[parent])
    crawler = world.crawler(capacity=1)
    world.assign()
    (order,) = crawler.orders()
    Discoverer(world, crawler, order, parent).finds(project("team/tool", 42))
    jobs = world.scalar("SELECT count(*) FROM job")

    other = Discoverer.at_work(world, account=world.account("other"), host="gitlab.example.org")
    other.finds(project("team/tool", 42))

    assert world.rejections() == []
    assert world.rows("SELECT host FROM area_host") == [("gitlab.example.org",)]
    assert world.scalar("SELECT count(*) FROM job") == jobs + 1  # the other discovery
    urls = {json.loads(one)[1] for one in identities(world) if one}
    assert urls == {OURS}


def test_an_area_that_was_stored_under_another_spelling_is_known(world: World) -> None:
    """A worker of 0.4.1 may store such a host at any time."""
    Discoverer.at_work(world).finds(project("team/tool", 42))
    world.rows("UPDATE area_host SET host = 'GitLab.example.org:443'")

    Discoverer.at_work(world, account=world.account("other")).finds(project("team/tool", 42))

    assert world.rejections() == []


@pytest.mark.parametrize("by_order", [True, False])
def test_gitlabs_below_two_paths_of_a_host_have_areas_of_their_own(world: World, *, by_order: bool) -> None:
    """Paths that differ in case alone are one on one GitLab: statements know the prefixes, too."""
    ours = {"namespace_path": "Team/Tool", "entity_id": "1", "gitlab_host": "https://code.example.org/gitlab"}
    if by_order:
        world.submit(world.order(**ours))
    else:
        world.rows(
            "INSERT INTO area (full_path, gitlab_id, type)"
            " VALUES ('Team/Tool', 'gid://gitlab/Project/1', 'project')"
        )
        url = "https://code.example.org/gitlab/api/graphql"
        world.deliver("jobs.enqueue", job_ids=[world.insert_job(full_path="Team/Tool", gitlabGraphQLUrl=url)])

    world.submit(
        world.order(namespace_path="team/tool", entity_id="2", gitlab_host="https://code.example.org")
    )

    assert world.rows("SELECT full_path FROM area ORDER BY gitlab_id") == [("Team/Tool",), ("team/tool",)]


def test_one_cap_counts_for_all_spellings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the five jobs are assigned, and each order names the GitLab once and rightly."""
    monkeypatch.setenv("CRAWLYARD_HOST_CAP", "2")
    world.reload_settings()
    jobs = [
        world.insert_job(accountId=world.account(f"acc-{n}"), gitlabGraphQLUrl=url)
        for n, url in enumerate(SPELLINGS)
    ]
    world.deliver("jobs.enqueue", job_ids=jobs)
    world.crawler(capacity=9)

    world.assign()

    assert world.rows('SELECT "gitlabUrl" FROM crawler_order') == [("https://gitlab.example.org",)] * 2
    assert world.rows("SELECT host, sum(live) FROM live_count GROUP BY host") == [("gitlab.example.org", 2)]


def test_an_entry_that_an_older_worker_queued_is_assigned_under_the_one_name(world: World) -> None:
    """The first round gives it its host, the second assigns it."""
    job = world.insert_job(gitlabGraphQLUrl=SPELLINGS[1])
    world.deliver("jobs.enqueue", job_ids=[job])
    world.rows("UPDATE job_queue SET host = 'gitlab.example.org:443'")
    world.crawler()

    world.assign()
    world.assign()

    assert [attempt.host for attempt in world.attempts(job)] == ["gitlab.example.org"]


@pytest.mark.parametrize(
    ("url", "gitlab_url"),
    [*((url, "https://gitlab.example.org") for url in SPELLINGS),
     ("https://code.example.org/gitlab/api/graphql", "https://code.example.org/gitlab")],
)  # fmt: skip
def test_an_attempt_of_an_older_worker_names_the_gitlab(world: World, url: str, gitlab_url: str) -> None:
    """It has no approved origin: the view reads the job's URL, with its prefix."""
    job = world.insert_job(gitlabGraphQLUrl=url)
    world.deliver("jobs.enqueue", job_ids=[job])
    world.crawler()
    world.assign()
    world.rows("UPDATE job_assignment_mapping SET gitlab_url = NULL")

    (named,) = world.row('SELECT "gitlabUrl" FROM crawler_order')

    assert named.lower().removesuffix(".").removesuffix(":443") == gitlab_url


def test_a_gitlab_below_a_path_works_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its order, the check of a token and the refresh name the path; nothing goes to the host's root."""
    with GitLab(path="/gitlab") as gitlab:
        monkeypatch.setenv("CRAWLYARD_OAUTH_PROVIDERS", gitlab.providers())
        world.reload_settings()
        tokens = Tokens(world, gitlab)
        tokens.authorize()
        crawler, (order,) = tokens.at_work()
        assert world.row('SELECT "gitlabUrl" FROM crawler_order') == (gitlab.url,)
        gitlab.expire()

        crawler.sends("token_refresh_request", order)
        tokens.refresh()

        assert (gitlab.checks, gitlab.calls) == (1, 1)
        assert tokens.works()
        assert tokens.statuses() == ["queued"]
        assert world.scalar("SELECT host FROM job_queue").endswith("/gitlab")
