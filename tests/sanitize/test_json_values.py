"""Foreign values are stored without secrets, as Postgres accepts them, and limited in size."""

import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.sanitize.json_values import JSON, clean_text, redact, storable
from support.secrets import HOSTILE_TEXT, MEBIBYTE, PLANTED, SECRETS, shows_a_secret


def size(value: JSON) -> int:
    """The size of a value as JSON in bytes; raises if it is not JSON or not UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())


def test_the_value_under_a_secret_key_is_replaced_as_a_whole() -> None:
    """Whatever the value is, and however the name is spelled."""
    value: JSON = {
        "accessToken": "a",
        "refresh_token": ["b"],
        "headers": {
            "Authorization": {"scheme": "c"},
            "Set-Cookie": ["d"],
            "x-gitlab-token": "e",
            "Accept": "json",
        },
        "password": 1234,
        "privateToken": "f",
        "clientSecret": "g",
        "API Key": "h",
        "code": "0123456789abcdef0123",
    }

    assert redact(value) == {
        "accessToken": "[redacted]",
        "refresh_token": "[redacted]",
        "headers": {
            "Authorization": "[redacted]",
            "Set-Cookie": "[redacted]",
            "x-gitlab-token": "[redacted]",
            "Accept": "json",
        },
        "password": "[redacted]",
        "privateToken": "[redacted]",
        "clientSecret": "[redacted]",
        "API Key": "[redacted]",
        "code": "[redacted]",
    }


def test_counts_flags_and_nulls_under_secret_keys_stay() -> None:
    """A name that only mentions a secret redacts nothing."""
    value: JSON = {
        "tokens_used": 5,
        "tokens": 7,
        "current_token_expired": True,
        "access_token_expires_at": "2030-01-01T00:00:00Z",
        "accessToken": None,
        "password": "",
        "code": "ECONNRESET",
        "secretary": "Ann",
        "area_authorization": "of account 7",
        "command": "authorizationScope",
    }

    assert redact(value) == value


def test_texts_and_names_within_a_value_are_redacted() -> None:
    """At every depth, and in a header that is a list of name and value."""
    value: JSON = [
        {"url": "https://h/?private_token=abc", "glpat-abcdefgh": 1},
        [["PRIVATE-TOKEN", "abc"], ["Accept", "json"]],
    ]

    assert redact(value) == [
        {"url": "https://h/?private_token=[redacted]", "[redacted]": 1},
        [["PRIVATE-TOKEN", "[redacted]"], ["Accept", "json"]],
    ]


def test_values_nested_too_deeply_are_replaced() -> None:
    """Up to 64 levels are kept."""
    deep: JSON = "end"
    for _ in range(100_000):
        deep = [deep]

    redacted = redact(deep)
    for _ in range(64):
        assert isinstance(redacted, list)
        (redacted,) = redacted

    assert redacted == "[too deep]"


def test_cyclic_lists_terminate() -> None:
    """Also lists that would be 2**64 values if written out."""
    knot: list[Any] = []
    knot += [knot, knot]

    assert size(storable(knot)) <= 65_536
    assert str(storable(knot, 100)).startswith("{'cut': '[[[[")


class _Liar:
    """An object whose methods raise, or return a secret."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        return "glpat-abcdefgh"

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__


class _Endless(list[int]):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


class _Word(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "glpat-abcdefgh"

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd"),
        (memoryview(b"token=abc"), "token=[redacted]"),
        ("nul \0 and half a pair \ud83d", "nul \ufffd and half a pair \ufffd"),
        ({"a\0": "\0"}, {"a\ufffd": "\ufffd"}),
        ([math.nan, math.inf, -math.inf, 1.5], ["NaN", "Infinity", "-Infinity", 1.5]),
        (2**1000, 2**1000),
        (16**5000, "0x1" + "0" * 5000),
        ({1: "a", None: "b", (1, "c"): "d", b"e": "f"}, {"1": "a", "null": "b", '[1, "c"]': "d", "e": "f"}),
        ((1, (2,)), [1, [2]]),
        (datetime(2030, 1, 2, tzinfo=UTC), "2030-01-02 00:00:00+00:00"),
        (timedelta(seconds=90), "0:01:30"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([_Liar(), {"a": _Liar(), "token": _Liar()}], ["_Liar", {"a": "_Liar", "token": "[redacted]"}]),
        (_Word("plain"), "plain"),
        (ValueError("glpat-abcdefgh"), "ValueError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_object_is_made_storable(value: object, expected: JSON) -> None:
    """What jsonb cannot express becomes text; an unknown object becomes the name of its type, never its own text."""
    assert storable(value) == expected


def test_endless_values_are_cut() -> None:
    """A subclass may yield values without end."""
    assert storable(_Endless(), 20) == {"cut": "[1, 1, 1,"}


def test_the_beginning_of_ten_mebibytes_is_kept() -> None:
    """A long text stays a text, anything else becomes the beginning of its JSON; both are fast."""
    start = time.process_time()
    text = storable("ab" * 5 * MEBIBYTE)
    value = storable({"frames": [{"type": "x", "data": "y" * 100}] * 100_000})

    assert isinstance(text, str)
    assert text == "ab" * ((len(text) - 5) // 2) + "a" * (len(text) % 2 == 0) + "[cut]"
    assert 65_530 <= size(text) <= 65_536
    assert isinstance(value, dict)
    assert list(value) == ["cut"]
    assert str(value["cut"]).startswith('{"frames": [{"type": "x", "data": "yyy')
    assert 60_000 <= size(value) <= 65_536
    assert time.process_time() - start < 5


@pytest.mark.parametrize("length", range(980, 1030))
def test_a_cut_never_leaves_half_a_secret(length: int) -> None:
    """The text is redacted before it is cut: half a secret would not be recognised."""
    text = "x" * length + " https://user:Zq7" + "y" * 50 + "qZ7w@h/ " + "z" * MEBIBYTE

    for kept in (clean_text(text, 1024), storable(text, 1024), storable([text], 1024)):
        assert "Zq7" not in str(kept)


def test_redactions_before_a_cut_do_not_expose_half_a_secret() -> None:
    """Redactions shorten the text, so that text from after the limit moves into it."""
    text = "token=" + "x" * 9_000 + " https://user:Zq7" + "y" * MEBIBYTE + "@h"

    assert "Zq7" not in clean_text(text, 1_024)


@pytest.mark.parametrize("limit", [0, 3, 5, 6, 9, 10, 11])
def test_a_text_is_cut_between_two_characters(limit: int) -> None:
    """The limit is in bytes, and no character is cut in half."""
    assert clean_text("\u00e9" * 10, limit) == ("\u00e9" * max((limit - 5) // 2, 0) + "[cut]")[:limit]
    assert clean_text("\u00e9" * 10, 20) == "\u00e9" * 10


# --- Properties ---

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | HOSTILE_TEXT
NAMES = HOSTILE_TEXT | st.sampled_from(["accessToken", "tokens", "code", "cookie", "id", "PRIVATE-TOKEN"])
VALUES: st.SearchStrategy[JSON] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.recursive(
    SCALARS
    | st.binary()
    | st.floats()
    | st.decimals()
    | st.datetimes()
    | st.builds(_Liar)
    | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(SCALARS | st.binary() | st.tuples(st.floats()), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_redacting_a_value_is_idempotent(value: JSON) -> None:
    """Including names."""
    once = redact(value)

    assert redact(once) == once


@given(VALUES, PLANTED, SECRETS, st.sampled_from(["accessToken", "set-cookie", "clientSecret", "PASSWORD"]))
def test_no_planted_secret_survives_in_a_value(value: JSON, planted: str, secret: str, name: str) -> None:
    """Whether in a text, in a name or under a name, and at any size limit."""
    whole: JSON = [value, {"text": planted, planted: 1, name: [secret, {"a": secret}]}, [name, secret]]

    assert not shows_a_secret(json.dumps(redact(whole)))
    for limit in (40, 100, 1_000, 65_536):
        assert not shows_a_secret(json.dumps(storable(whole, limit)))


@given(OBJECTS, st.integers(16, 2_000))
def test_storable_values_are_json_and_bounded(value: object, limit: int) -> None:
    """They are JSON without NaN, NUL or lone surrogates, and no value raises."""
    kept = storable(value, limit)

    assert size(kept) <= limit
    assert "\\u0000" not in json.dumps(kept)


@given(OBJECTS)
def test_redaction_accepts_any_object(value: Any) -> None:
    """The result is always JSON."""
    json.dumps(redact(value), allow_nan=False)


@given(HOSTILE_TEXT, st.integers(0, 200))
def test_a_cleaned_text_is_storable_and_bounded(text: str, limit: int) -> None:
    """Without NUL and lone surrogates, and within the limit."""
    kept = clean_text(text, limit)

    assert len(kept.encode()) <= limit
    assert "\0" not in kept
