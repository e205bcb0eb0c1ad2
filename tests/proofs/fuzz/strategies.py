"""Payloads that the contract allows, generated from its own JSON Schemas."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from console.commands.contract import schema

Schema = dict[str, Any]

ACCOUNT = "acc"
JOBS = ["job-waiting", "job-running", "job-failed"]
ATTEMPT = "01ARZ3NDEKTSV4RRFFQ69G5FAT"
CONNECTION = "01ARZ3NDEKTSV4RRFFQ69G5FAC"
UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAX"

TIMES = st.sampled_from(
    [
        "2026-05-04T03:02:01Z",
        "2026-05-04T03:02:01.123456+14:00",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-14:00",
        "1970-01-01T00:00:00Z",
    ]
)
_HOSTS = st.sampled_from(["gitlab.example.org", "http://gitlab.example.org:8080/x", "GITLAB", "::1", "[::1]"])
_SOME_JOB = st.sampled_from([*JOBS, "unknown-job"])
_SOME_ATTEMPT = st.sampled_from([ATTEMPT, UNKNOWN])

_KNOWN = {
    "account_id": st.sampled_from([ACCOUNT, "unknown"]),
    "user_id": st.sampled_from(["unknown", None]),
    "job_id": _SOME_JOB,
    "job_ids": st.lists(_SOME_JOB, min_size=1, max_size=4),
    "subtree_of": _SOME_JOB,
    "web_app_job_id": _SOME_JOB | st.none(),
    "connection_id": st.sampled_from([CONNECTION, UNKNOWN]),
    "crawler_job_id": _SOME_ATTEMPT,
    "jobId": _SOME_ATTEMPT,
    "timestamp": TIMES,
    "gitlab_host": _HOSTS,
    "path": st.sampled_from(["group", "group/project", "group/other"]),
    "namespacePath": st.sampled_from(["group", "group/project", "group/other"]),
    "namespace_path": st.sampled_from(["group", "group/project", None]),
}
"""Fields whose values must mostly exist for a payload to have an effect."""

_TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)

_FINITE = st.floats(allow_nan=False, allow_infinity=False)

_LONGEST = 1000
"""Characters of a text; longer texts have tests of their own."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | _FINITE | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)


def payloads(task: str) -> SearchStrategy[Any]:
    """Return payloads of a task."""
    return _strategy(found := schema(task), found.get("$defs", {}))


def items(task: str) -> SearchStrategy[Any]:
    """Return items of the task's batch."""
    found = schema(task)
    (batch,) = found["properties"].values()
    return _strategy(batch["items"], found.get("$defs", {}))


def _strategy(part: Schema, defs: Schema) -> SearchStrategy[Any]:
    """Return values that this part of a schema allows."""
    if "$ref" in part:
        name = part["$ref"].rsplit("/", 1)[-1]
        return st.deferred(lambda: _strategy(defs[name], defs))
    if choices := part.get("anyOf") or part.get("oneOf"):
        return st.one_of([_strategy(choice, defs) for choice in choices])
    if "const" in part:
        return st.just(part["const"])
    if "enum" in part:
        return st.sampled_from(part["enum"])
    return _OF_TYPE[part["type"]](part, defs)


def _object(part: Schema, defs: Schema) -> SearchStrategy[Any]:
    if "properties" not in part:
        return _mapping(part, defs)
    required = set(part.get("required", []))
    fields = {name: _field(name, each, defs) for name, each in part["properties"].items()}
    return st.fixed_dictionaries(
        {name: each for name, each in fields.items() if name in required},
        optional={name: each for name, each in fields.items() if name not in required},
    )


def _field(name: str, part: Schema, defs: Schema) -> SearchStrategy[Any]:
    return _KNOWN[name] if name in _KNOWN else _strategy(part, defs)


def _mapping(part: Schema, defs: Schema) -> SearchStrategy[Any]:
    values = part.get("additionalProperties")
    values = _strategy(values, defs) if isinstance(values, dict) else JSON
    return st.dictionaries(_string(part.get("propertyNames", {}), defs), values, max_size=4)


def _array(part: Schema, defs: Schema) -> SearchStrategy[Any]:
    return st.lists(_strategy(part["items"], defs), min_size=part.get("minItems", 0), max_size=4)


def _string(part: Schema, _: Schema) -> SearchStrategy[Any]:
    if part.get("format") == "date-time":
        return TIMES
    if "pattern" in part:
        return st.from_regex(part["pattern"], fullmatch=True).filter(lambda text: "\0" not in text)
    least, most = part.get("minLength", 0), min(part.get("maxLength", 1000), _LONGEST)
    return _TEXTS.filter(lambda text: len(text) >= least) | st.just("é" * most)


def _integer(part: Schema, _: Schema) -> SearchStrategy[Any]:
    return st.integers(part.get("minimum"), part.get("maximum"))


def _number(part: Schema, _: Schema) -> SearchStrategy[Any]:
    return st.floats(part.get("minimum"), part.get("maximum"), allow_nan=False)


_OF_TYPE = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda *_: st.booleans(),
    "null": lambda *_: st.none(),
}
