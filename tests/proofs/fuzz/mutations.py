"""Payloads with mutations: wrong, huge, deep or strange values anywhere inside."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

SECRET = "Zq7-0123456789abcdefghij-qZ7w"
"""A secret that must never be stored; each of the forms below is recognized as a secret."""

_SECRETS = [
    f"https://oauth2:{SECRET}@gitlab.example.org/a.git",
    f"it failed with access_token={SECRET}&page=2",
    {"Authorization": f"Bearer {SECRET}"},
    {"private_token": [SECRET]},
    ["Authorization", f"Bearer {SECRET}"],
]

Path = tuple[str | int, ...]


def deep(levels: int, inner: Any = 0) -> Any:
    """Return nested lists."""
    for _ in range(levels):
        inner = [inner]
    return inner


_JUNK = [
    *(None, True, False, 0, -1, 1.5, -0.0, 2**31, 2**53 + 1, 2**63, -(2**64), 10**400, 10**1000),
    *(float("nan"), float("inf"), float("-inf"), 1e308, 5e-324),
    *("", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\u202e", "x" * 300, "é" * 3_000, "9" * 400, "NaN"),
    *("2026-05-04", "2026-13-45T99:99:99Z", "10000-01-01T00:00:00Z", "-infinity", "now()", "'; --", "%s{}$1"),
    *([], {}, [[]] * 300, {"": ""}, {"\0": "\ud800"}, {"__type__": "datetime", "__value__": "x"}),
    *({str(n): n for n in range(600)}, deep(33), deep(150), {"a": deep(40, {})}),
    *_SECRETS,
]

JUNK = st.sampled_from(_JUNK).map(copy.deepcopy)


@st.composite
def mutated(draw: DrawFn, valid: SearchStrategy[Any]) -> Any:
    """Draw a valid value, changed in one to three places, and sometimes with the secret."""
    value = copy.deepcopy(draw(valid))
    for _ in range(draw(st.integers(1, 3))):
        value = draw(st.sampled_from(_MUTATIONS))(draw, value)
    return (
        _junk_at(draw, value, st.sampled_from(_SECRETS).map(copy.deepcopy)) if draw(st.booleans()) else value
    )


def _replace(draw: DrawFn, value: Any) -> Any:
    return _junk_at(draw, value, JUNK)


def _junk_at(draw: DrawFn, value: Any, junk: SearchStrategy[Any]) -> Any:
    return _changed(value, draw(st.sampled_from(list(_paths(value)))), lambda _: draw(junk))


def _drop(draw: DrawFn, value: Any) -> Any:
    path = draw(st.sampled_from(list(_paths(value))))
    return _changed(value, path[:-1], lambda parent: _without(parent, path[-1])) if path else value


def _add(draw: DrawFn, value: Any) -> Any:
    name = draw(st.sampled_from(["surprise", "access_token", "", "id", "type", "__class__", "\ud800"]))
    places = [path for path in _paths(value) if isinstance(_at(value, path), dict)]
    if not places:
        return value
    return _changed(value, draw(st.sampled_from(places)), lambda found: found | {name: draw(JUNK)})


def _repeat(draw: DrawFn, value: Any) -> Any:
    places = [path for path in _paths(value) if isinstance(_at(value, path), list)]
    if not places:
        return value
    times = draw(st.sampled_from([2, 2, 8]))
    return _changed(value, draw(st.sampled_from(places)), lambda found: found[:5] * times)


_MUTATIONS: list[Callable[[DrawFn, Any], Any]] = [_replace, _replace, _replace, _drop, _add, _repeat]


def _paths(value: Any, depth: int = 6) -> Iterator[Path]:
    yield ()
    if depth and isinstance(value, dict | list):
        for key, child in _children(value):
            yield from ((key, *rest) for rest in _paths(child, depth - 1))


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(list(value.items() if isinstance(value, dict) else enumerate(value))[:20])


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def _changed(value: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    value[path[0]] = _changed(value[path[0]], path[1:], change)
    return value


def _without(parent: Any, key: Any) -> Any:
    del parent[key]
    return parent
