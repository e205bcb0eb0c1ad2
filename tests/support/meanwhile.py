"""Lets another session act between two statements of a unit of work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text

from persistence.db.engine import engine


def once(
    patch: pytest.MonkeyPatch, owner: type, name: str, action: Callable[[], None], *, before: bool = False
) -> None:
    """Run an action once, right after a method has returned, or before it is called."""
    method, actions = getattr(owner, name), [action]

    def called(*arguments: Any, **named: Any) -> Any:
        now = actions.pop() if actions else None
        if now and before:
            now()
        result = method(*arguments, **named)
        if now and not before:
            now()
        return result

    patch.setattr(owner, name, called)


@contextmanager
def held(statement: str, **values: Any) -> Iterator[None]:
    """Lock the rows of a statement in another session."""
    with engine().connect() as peer:
        peer.execute(text(f"{statement} FOR UPDATE"), values)
        yield
        peer.rollback()
