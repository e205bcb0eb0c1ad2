"""Pictures are equal if and only if two runs did the same."""

from typing import Any

from ulid import ULID

from proofs.crashes.canonical import picture

KNOWN = str(ULID())


def run(
    *,
    swapped: bool = False,
    at: str = "2026-05-04T03:02:01.5+00:00",
    status: str = "assigned",
    is_first_newer: bool = False,
) -> Any:
    """Return the picture of two attempts with errors, under new ids; *swapped*: each error is the other's."""
    first, second = sorted((str(ULID()), str(ULID())), reverse=is_first_newer)
    errors = [str(ULID()), str(ULID())]
    errors_of = [("broke", second if swapped else first), ("stalled", first if swapped else second)]
    tables = {
        "job": [{"id": KNOWN, "active": sorted([first, second]), "seconds_elapsed": hash(first)}],
        "attempt": [
            {"id": first, "job": KNOWN, "status": status, "at": at},
            {"id": second, "job": KNOWN, "status": "failed", "at": None},
        ],
        "error": [
            {"id": id_, "text": f"{text}: {attempt}", "context": {"attempt": attempt}}
            for id_, (text, attempt) in zip(errors, errors_of, strict=True)
        ],
        "event": [{"xid": str(hash(first)), "id": hash(second), "payload": {"attempt": first}}],
    }
    return picture(tables, [("jobs.assign", {"attempt": first})], {KNOWN})


def test_ids_times_and_places_in_a_stream_make_no_difference() -> None:
    """Ids and times make no difference in columns, lists, texts, or messages."""
    assert run() == run(at="2027-01-01 00:00:00+00")


def test_the_order_of_ids_makes_no_difference() -> None:
    """A list of ids is sorted by what the ids stand for, since their order was random."""
    assert run() == run(is_first_newer=True)


def test_ownership_makes_a_difference() -> None:
    """An error of another attempt makes a difference, although the numbers of rows are equal."""
    assert run() != run(swapped=True)


def test_a_differing_value_is_reported_by_name() -> None:
    """A difference is a row on either side."""
    differences = run().differences(run(status="running"))
    assert {line[:9] for line in differences if '"at": "~"' in line} == {"- attempt", "+ attempt"}
    assert run(at="never") != run()
