"""Values of the contract are accepted up to their bounds."""

from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tasks.contract.types import BATCH_LIMIT, AreaPath, JsonObject, Path, Ulid, type_of_batch


def nested(depth: int) -> Any:
    """An object with so many levels."""
    value: Any = 0
    for _ in range(depth):
        value = {"a": value}
    return value


JSON = TypeAdapter(JsonObject)


@pytest.mark.parametrize(
    "value",
    [
        nested(32),
        {"a": 2**63 - 1, "b": -(2**63) + 1},
        {"a": [0] * 19_990},
        {"a": "x" * (2**20 - 1)},
        {"a": [1.5, None, True, "ä\U0001f600"]},
    ],
)
def test_json_within_the_bounds_is_accepted_unchanged(value: Any) -> None:
    """JSON up to the bounds of depth, size and length is accepted."""
    assert JSON.validate_python(value) == value


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (nested(33), "json_too_large"),
        ({"a": [0] * 20_000}, "json_too_large"),
        ({"a": "x" * 2**20}, "json_too_large"),
        ({"x" * (2**20 + 1): [1]}, "json_too_large"),
        ({"a": 2**63}, "integer_too_large"),
        ({"a": [-(2**63)]}, "integer_too_large"),
        ({"a": float("nan")}, "not_finite"),
        ({"a": [float("-inf")]}, "not_finite"),
        ({"a": "x\x00"}, "unkeepable_text"),
        ({"x\x00": 1}, "unkeepable_text"),
        ({"a": "\ud800"}, "unkeepable_text"),
    ],
)
def test_json_that_cannot_be_stored_is_refused(value: Any, complaint: str) -> None:
    """It is refused before it could make a statement fail."""
    with pytest.raises(ValidationError) as refused:
        JSON.validate_python(value)
    assert [error["type"] for error in refused.value.errors()] == [complaint]


def test_a_batch_is_a_list_of_bounded_length() -> None:
    """A longer list is refused as a whole."""
    batch = TypeAdapter(Annotated[Any, type_of_batch])
    assert len(batch.validate_python([0] * BATCH_LIMIT)) == BATCH_LIMIT
    for value in ([0] * (BATCH_LIMIT + 1), "ab", {"a": 1}, None):
        with pytest.raises(ValidationError):
            batch.validate_python(value)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Path, "p" * 1000, ["p" * 1001, "", "a\x00"]),
        (AreaPath, "a/b.c/d_e", ["a" * 1001, "/a", "a/", "a//b", "a b", "a\tb"]),
        (
            Ulid,
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            ["01arz3ndektsv4rrffq69g5fav", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "0" * 25],
        ),
    ],
)
def test_texts_are_limited_to_what_an_index_holds(kind: Any, good: str, bad: list[str]) -> None:
    """A longer key would make the statement fail."""
    adapter = TypeAdapter(kind)
    assert adapter.validate_python(good) == good
    for text in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(text)
