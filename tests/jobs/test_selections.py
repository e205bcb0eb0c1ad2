"""What the five commands select: the named jobs, deferred ones included, and no others."""

from typing import Any

import pytest
from sqlalchemy import text
from ulid import ULID

from persistence.jobs import selection
from persistence.jobs.selection import FAILED, START, UNFINISHED, Choice
from support.worlds.world import World
from tasks.jobs import selections as walks

# By verb: the status of the jobs before, and the condition of a changed job.
VERBS = {
    "cancel": ("queued", "job.status = 'cancelled'"),
    "pause": ("queued", "job.status = 'paused'"),
    "resume": ("paused", "job.status = 'queued'"),
    "retry": ("failed", "job.status = 'queued'"),
    "prioritize": ("queued", "q.priority = 9"),
}


def deliver(world: World, verb: str, **selected: Any) -> None:
    """Deliver the task of a verb."""
    priority = {"priority": 9} if verb == "prioritize" else {}
    world.deliver(f"jobs.{verb}", **selected, **priority)


def changed(world: World, verb: str) -> set[str]:
    """The jobs that the verb has changed."""
    entries = "SELECT job.id FROM job LEFT JOIN job_queue q ON q.web_app_job_id = job.id WHERE "
    return {id_ for (id_,) in world.rows(entries + VERBS[verb][1])}


def family(world: World) -> dict[str, str]:
    """Jobs of two accounts in several areas; three of them descend from a root that has long finished."""
    world.account("other")
    root = world.insert_job(status="finished", full_path="a")
    ids = {"root": root}
    for name, parent, path, account in (
        ("child", "root", "a/b", "acc"),
        ("grandchild", "child", "a/b/c", "acc"),
        ("others", "root", "x/others", "other"),
        ("alike", None, "a/bc", "acc"),
        ("stranger", None, "x/y", "other"),
    ):
        ids[name] = world.insert_job(spawned_from=ids.get(parent or ""), full_path=path, accountId=account)
    ids["scope"] = world.insert_job(command="authorizationScope", full_path="a/b", spawned_from=root)
    world.deliver("jobs.enqueue", job_ids=list(ids.values()))
    return ids


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest) -> str:
    """Each of the five verbs."""
    return str(request.param)


@pytest.mark.parametrize(
    ("kind", "named", "meant"),
    [
        ("job_ids", ["child", "stranger", "scope"], {"child", "stranger"}),
        ("area", "a/b", {"child", "grandchild"}),
        ("subtree_of", "root", {"child", "grandchild", "others"}),
        ("subtree_of", "grandchild", {"grandchild"}),
        ("account_id", "other", {"others", "stranger"}),
    ],
)
def test_each_command_changes_only_the_selected_jobs(
    world: World, monkeypatch: pytest.MonkeyPatch, verb: str, *, kind: str, named: Any, meant: set[str]
) -> None:
    """Also with one job per chunk and two rows per page; authorizationScope jobs are never selected."""
    monkeypatch.setattr(walks, "CHUNK_JOBS", 1)
    monkeypatch.setattr(selection, "WINDOW", 2)
    ids = family(world)
    world.rows("UPDATE job SET status = :s WHERE id <> :root", s=VERBS[verb][0], root=ids["root"])
    world.rows("DELETE FROM periodic_ring")
    world.deliver("upkeep.reconcile")
    named = [ids[name] for name in named] if kind == "job_ids" else ids.get(named, named)

    deliver(world, verb, **{kind: named})

    if kind == "account_id" and verb in ("pause", "resume"):
        assert changed(world, verb) == set()  # that pauses the account, not its jobs
    else:
        assert changed(world, verb) == {ids[name] for name in meant}
    assert world.job(ids["root"]).status == "finished"
    assert world.job(ids["scope"]).status == VERBS[verb][0]


def defer(world: World, path: str, account: str, parent: str) -> str:
    """Insert a deferred job."""
    id_ = str(ULID())
    world.rows(
        "INSERT INTO deferred_job (id, account_id, command, full_path, priority, spawned_from)"
        " VALUES (:id, :account, 'issues', :path, 1, :parent)",
        id=id_,
        account=account,
        path=path,
        parent=parent,
    )
    return id_


@pytest.mark.parametrize(
    ("kind", "named", "meant"),
    [("account_id", "acc", {1, 2, 3}), ("area", "a/b", {1, 2}), ("subtree_of", "root", {1, 4})],
)
def test_deferred_jobs_are_changed_too(
    world: World, monkeypatch: pytest.MonkeyPatch, verb: str, *, kind: str, named: str, meant: set[int]
) -> None:
    """Cancel deletes it, prioritize gives it the priority; the other verbs leave it."""
    monkeypatch.setattr(walks, "CHUNK_JOBS", 1)
    monkeypatch.setattr(selection, "WINDOW", 2)
    ids = family(world)
    places = (
        ("a/b", "acc", "child"),
        ("a/b/z", "acc", "alike"),
        ("a/bc", "acc", "alike"),
        ("z", "other", "root"),
    )
    deferred = {
        number: defer(world, path, account, ids[parent])
        for number, (path, account, parent) in enumerate(places, start=1)
    }

    deliver(world, verb, **{kind: ids.get(named, named)})

    left = {row.id: row.priority for row in world.rows("SELECT id, priority FROM deferred_job")}
    chosen = {deferred[number] for number in meant}
    match verb:
        case "cancel":
            assert left == dict.fromkeys(set(deferred.values()) - chosen, 1)
        case "prioritize":
            assert left == {id_: 9 if id_ in chosen else 1 for id_ in deferred.values()}
        case _:
            assert left == dict.fromkeys(deferred.values(), 1)


def test_a_page_reads_a_bounded_range_of_the_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is the end of what it read, found or not, and the next page begins there."""
    for number in range(5):
        world.insert_job(id=f"j{number}", accountId=world.account("other") if number == 3 else "acc")
    monkeypatch.setattr(selection, "WINDOW", 2)
    with world.unit() as uow:
        walk = uow.selections.jobs
        pages = [walk(Choice("account_id", "other"), UNFINISHED, after, 9) for after in (START, "j1", "j3")]
        assert [(page.ids, page.place) for page in pages] == [([], "j1"), (["j3"], "j3"), ([], None)]
        monkeypatch.setattr(selection, "WINDOW", 5)
        page = walk(Choice("account_id", "acc"), UNFINISHED, START, 3)
        assert (page.ids, page.place) == (["j0", "j1", "j2"], "j2")


@pytest.mark.fresh_tables
@pytest.mark.parametrize("kind", ["account_id", "area", "subtree_of", "error_group"])
def test_no_page_reads_the_whole_table(world: World, kind: str) -> None:
    """Of 30,000 jobs it reads those in its range, by the primary key, whatever is selected."""
    world.rows(
        'INSERT INTO job (id, "accountId", command, full_path, spawned_from)'
        " SELECT 'j' || lpad(n::text, 6, '0'), 'acc', 'issues', 'a/' || n, 'j' || lpad((n / 10)::text, 6, '0')"
        " FROM generate_series(1, 30000) n"
    )
    world.rows("ANALYZE job")
    with world.unit() as uow:
        session = uow._session
        before = tuple_reads(session)
        page = uow.selections.jobs(Choice(kind, "nothing"), UNFINISHED, "j020000", 1000)
        reads = tuple_reads(session) - before
    assert (page.ids, page.place) == ([], "j025000")
    assert 5000 <= reads <= 7000


@pytest.mark.fresh_tables
@pytest.mark.parametrize("analyzed", [False, True])
def test_a_page_of_an_error_group_does_not_read_the_group(world: World, *, analyzed: bool) -> None:
    """Of an error that all jobs have it reads the errors of the jobs in its range; also without statistics."""
    world.rows(
        'INSERT INTO job (id, "accountId", command, full_path, status)'
        " SELECT 'j' || lpad(n::text, 6, '0'), 'acc', 'issues', 'a/' || n, 'failed' FROM generate_series(1, 20000) n"
    )
    world.rows(
        "INSERT INTO job_error_log (id, job_id, error_type, error_message, fingerprint)"
        " SELECT 'e' || id, id, 'HTTPError', 'x', 'f1' FROM job"
    )
    if analyzed:
        world.rows("ANALYZE job")
        world.rows("ANALYZE job_error_log")
    times = {"failed_after": None, "failed_before": None}
    with world.unit() as uow:
        session = uow._session
        before = tuple_reads(session, "job_error_log")
        page = uow.selections.jobs(Choice("error_group", "f1"), FAILED, "j002000", 1000, times)
        reads = tuple_reads(session, "job_error_log") - before
    assert (len(page.ids), page.place) == (1000, "j003000")
    assert 1000 <= reads <= 5000


def tuple_reads(session: Any, table: str = "job") -> int:
    """How many rows of the table this transaction has read so far."""
    reads = "SELECT COALESCE(seq_tup_read, 0) + COALESCE(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables"
    return int(session.scalars(text(f"{reads} WHERE relname = :table"), {"table": table}).one())
