"""The engine of a process."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine

from persistence.db import engine as engines
from support.engines import forget_engine

THREADS = 4


def test_threads_that_start_together_share_one_engine(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a threads pool do; the connections of a second engine would be used, and never closed."""
    made = []

    def slowly(*args: object, **options: object) -> object:
        made.append(args)
        time.sleep(0.05)
        return create_engine(*args, **options)  # type: ignore[call-overload]

    forget_engine()
    monkeypatch.setattr(engines, "create_engine", slowly)
    with ThreadPoolExecutor(THREADS) as threads:
        got = list(threads.map(lambda _: engines.engine(), range(THREADS)))

    assert len(made) == 1
    assert len(set(map(id, got))) == 1
