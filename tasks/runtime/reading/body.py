"""
The body of a message, which is read where its task runs.

The worker's main process passes the bytes on and never parses them: a child that runs out of memory is replaced, and
its message is run again a bounded number of times, while the main process serves the others.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from persistence.db.json_bounds import MAX_DEPTH, TooDeepError, TooLargeError, check_json, parse_json
from tasks.runtime.reading.large_items import take_large_items, without

_EMBEDDED = frozenset({"callbacks", "errbacks", "chain", "chord"})


class BodyRefusedError(ValueError):
    """A body that is no valid `[args, kwargs, embed]`, or is beyond a bound. The error does not quote it."""

    def __init__(self, detail: str, reason: str = "malformed") -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Body:
    """The bytes of a body: the only argument with which the worker calls a task."""

    raw: bytes = field(repr=False)

    def read(self) -> "Arguments":
        """Return the arguments. Raises BodyRefusedError."""
        _check(self.raw)
        raw, large, marker = take_large_items(self.raw)
        body = _parse(raw)
        match body:
            case [list() as args, dict() as kwargs, None | dict() as embed]:
                pass
            case _:
                raise BodyRefusedError("the body is not [args, kwargs, embed]")
        if not (embed or {}).keys() <= _EMBEDDED or any((embed or {}).values()):
            raise BodyRefusedError("callbacks, chains and chords are not accepted")
        if large:
            args, kwargs = (
                without(marker, args),
                dict(zip(kwargs, without(marker, kwargs.values()), strict=True)),
            )
        return Arguments(args, kwargs, large)


class Arguments(NamedTuple):
    """What a body contains."""

    args: list[Any]
    kwargs: dict[str, Any]
    large: list[bytes]
    """Items of the batch that are too large. They are not among the arguments."""


def _check(raw: bytes) -> None:
    try:
        check_json(raw, depth=MAX_DEPTH + 1)  # the body's own list is not counted
    except TooLargeError as error:
        raise BodyRefusedError(f"the body: {error}", "too_large") from None
    except TooDeepError:
        raise BodyRefusedError(f"the body is nested more than {MAX_DEPTH} levels deep") from None


def _parse(raw: bytes) -> object:
    try:
        return parse_json(raw, depth=MAX_DEPTH + 1)
    except ValueError:
        raise BodyRefusedError("the body is not JSON") from None
