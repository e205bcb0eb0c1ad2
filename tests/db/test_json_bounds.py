"""The bounds hold for what a parser would read, whatever strings and escapes the text contains."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persistence.db.json_bounds import TooDeepError, TooLargeError, check_json, parse_json
from persistence.db.json_tree import walk

TEXTS = st.text(alphabet='"\\[]{},:x\n\u00e9\ud800')
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=6),
    max_leaves=30,
)


@settings(deadline=None, database=None)
@given(VALUES, st.sampled_from([{}, {"ensure_ascii": False}, {"indent": 1}]))
def test_values_and_levels_are_never_undercounted(value: object, form: dict[str, Any]) -> None:
    """A value within its own bounds passes; one value or level less is refused."""
    text = json.dumps(value, **form).encode(errors="surrogatepass")
    nodes = list(walk(value))
    containers = [depth + 1 for node, depth in nodes if isinstance(node, dict | list)]
    # An empty container counts as if it had one value.
    counted = len(nodes) + sum(node in ([], {}) for node, _ in nodes if isinstance(node, dict | list))

    assert parse_json(text, values=counted, depth=max(containers, default=0)) == value
    with pytest.raises(TooLargeError):
        check_json(text, values=counted - 1)
    if containers:
        with pytest.raises(TooDeepError):
            check_json(text, depth=max(containers) - 1)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 2_000,
        b'["", ' + b"[]," * 2_000,
        b'["a" "[[[" ' + b"[]," * 2_000,
        b"[" + b"[]," * 2_000 + b'\\"',
        b'{"' + b"[" * 3_000 + b'":' + b"[" * 2_000,
        b"[" + b'",",' * 2_000 + b"0]",
    ],
)
def test_what_a_parser_reads_before_it_stops_is_bounded(text: bytes) -> None:
    """Text that is no JSON, or not to its end, is refused before it is parsed."""
    with pytest.raises((TooLargeError, TooDeepError)):
        check_json(text, values=1_000)


def test_brackets_in_strings_do_not_count() -> None:
    """A text of a crawler may contain any characters."""
    value = {'["\\': "[" * 3_000 + "," * 3_000 + '"\\"' * 3_000}

    assert parse_json(json.dumps(value).encode(), values=3, depth=1) == value


def test_other_encodings_are_refused() -> None:
    """json.loads would guess UTF-16, in which the scan would take an escaped quote for the end of a string."""
    text = json.dumps(['"', [[]] * 2_000])

    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        with pytest.raises(ValueError, match=r"."):
            parse_json(text.encode(encoding), values=1_000)


def test_a_text_of_more_bytes_is_refused() -> None:
    """The bytes are bounded before anything else."""
    with pytest.raises(TooLargeError):
        check_json(b"[0, 0]", size=5)
