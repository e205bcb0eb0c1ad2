"""`crawlyard crawlers`: enroll, rotate, revoke. A secret is shown once, and only its hash is kept."""

import asyncio

from persistence.orders.credentials import Credential, Credentials
from persistence.orders.session import OrderSession
from persistence.sanitize.crawler_secret import hash_of, is_secret, new_secret
from persistence.sanitize.text import redact_text
from support.command import Run
from support.worlds.links import attach, link
from support.worlds.world import World


def find(world: World, secret: str) -> Credential | None:
    """What a gateway finds for a secret."""

    async def read() -> Credential | None:
        session = OrderSession()
        try:
            return (await Credentials(session).find([hash_of(secret)])).get(hash_of(secret))
        finally:
            await session.close()

    return asyncio.run(read())


def enrolled(run: Run, *options: str) -> str:
    """Enroll a crawler `east`, and return its secret."""
    return str(run("crawlers", "enroll", "east", "--json", *options).json["secret"])


def test_an_enrolled_crawler_is_known_by_its_secret(world: World, run: Run) -> None:
    """And by no other."""
    secret = enrolled(run, "--capacity", "3")

    found = find(world, secret)
    assert found is not None
    assert (found.name, found.capacity) == ("east", 3)
    assert find(world, new_secret()) is None


def test_a_secret_is_kept_nowhere(world: World, run: Run) -> None:
    """Only its hash."""
    secret = enrolled(run)

    (row,) = world.rows("SELECT CAST(crawler_credential AS text) FROM crawler_credential")
    assert secret not in row[0]
    assert hash_of(secret) in row[0]


def test_people_get_the_secret_alone_on_stdout(world: World, run: Run) -> None:
    """So that it can be piped to a file."""
    output = run("crawlers", "enroll", "east")

    assert is_secret(output.out.removesuffix("\n"))
    assert output.err == "This secret is not shown again.\n"


def test_a_name_is_taken_once(world: World, run: Run) -> None:
    """Also by one that is revoked, whose name stands in the records."""
    secret = enrolled(run)
    run("crawlers", "revoke", "east")

    again = run("crawlers", "enroll", "east")

    assert (again.code, again.out) == (1, "")
    assert "There is a crawler east already" in again.err
    assert find(world, secret) is None


def test_after_a_rotation_both_secrets_are_valid_for_a_while(world: World, run: Run) -> None:
    """Then only the new one, and after the next rotation neither."""
    first = enrolled(run)
    second = run("crawlers", "rotate", "east", "--keep", "1h", "--json").json["secret"]
    assert find(world, first) == find(world, second) is not None

    world.rows("UPDATE crawler_credential SET former_valid_until = clock_timestamp() - interval '1 s'")
    assert find(world, first) is None
    assert find(world, second) is not None

    run("crawlers", "revoke", "east")
    assert find(world, second) is None


def test_unknown_and_revoked_crawlers_are_told_of(world: World, run: Run) -> None:
    """With an exit code."""
    enrolled(run)
    run("crawlers", "revoke", "east")

    for command in (("rotate", "east"), ("revoke", "east"), ("rotate", "nobody"), ("revoke", "nobody")):
        output = run("crawlers", *command)
        assert (output.code, output.out) == (1, "")
        assert f"There is no crawler {command[1]}" in output.err


def test_a_name_has_printable_characters(world: World, run: Run) -> None:
    """A terminal would obey others."""
    assert run("crawlers", "enroll", "e\x1b[31mast").code == 2
    assert world.scalar("SELECT count(*) FROM crawler_credential") == 0


def test_the_list_tells_state_and_last_use(world: World, run: Run) -> None:
    """The use is noted when a link is attached."""
    enrolled(run)
    (one,) = run("crawlers", "list", "--json").json
    assert (one["name"], one["last_used_at"], one["revoked_at"]) == ("east", None, None)

    attach(world, link("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, credential_id=one["id"]))

    assert run("crawlers", "list", "--json").json[0]["last_used_at"] is not None
    assert "secret" not in str(run("crawlers", "list", "--json").json)
    assert "east" in run("crawlers", "list").out


def test_a_secret_is_masked_in_texts_and_known_by_its_checksum() -> None:
    """Scanners know its prefix; one that was cut is refused before anything is looked up."""
    secret = new_secret()

    assert redact_text(f"with {secret}.") == "with [redacted]."
    assert is_secret(secret)
    assert not is_secret(secret[:-1])
    assert not is_secret(secret[:-1] + ("a" if secret[-1] != "a" else "b"))
    assert not is_secret(f"abc_{secret[4:]}")
