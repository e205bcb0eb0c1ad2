"""
Sets the clock of a Python process off by CLOCK_OFF_S seconds, before anything else is imported.

A folder for PYTHONPATH. It shifts `time.time`, `time.time_ns`, `time.clock_gettime` of the wall clock,
`time.localtime`, `time.gmtime`, `time.ctime` and `time.strftime` of now, and `now`, `utcnow` and `today` of
`datetime.datetime` and `datetime.date`, in place, because libraries have imported these classes. It does not shift
the monotonic clock, which changes of a clock do not affect, nor times that C code gets from the kernel.
"""

import ctypes
import datetime as dt
import functools
import gc
import os
import time
from collections.abc import Callable
from typing import Any

OFF_S = float(os.environ.get("CLOCK_OFF_S", "0"))
OFF = dt.timedelta(seconds=OFF_S)


def shift_time() -> None:
    """Shift the functions of `time`."""
    of_now, of_now_ns, of_clock = time.time, time.time_ns, time.clock_gettime
    time.time = lambda: of_now() + OFF_S
    time.time_ns = lambda: of_now_ns() + int(OFF_S * 1_000_000_000)
    time.clock_gettime = lambda clock: of_clock(clock) + (OFF_S if clock == time.CLOCK_REALTIME else 0)
    for name in ("localtime", "gmtime", "ctime"):
        setattr(time, name, _of_now_unless_told(getattr(time, name)))
    written = time.strftime
    time.strftime = lambda form, when=None: written(form, time.localtime() if when is None else when)


def _of_now_unless_told(told: Callable[[float], Any]) -> Callable[..., Any]:
    return lambda seconds=None: told(time.time() if seconds is None else seconds)


def shift_datetime() -> None:
    """Shift the constructors for the current time; the class stays, because C code compares with it."""
    now = dt.datetime.now
    _replace(dt.datetime, "now", lambda cls, tz=None: _as(cls, now(tz) + OFF))
    _replace(dt.datetime, "utcnow", lambda cls: _as(cls, now(dt.UTC).replace(tzinfo=None) + OFF))
    _replace(dt.datetime, "today", lambda cls: _as(cls, now() + OFF))
    _replace(dt.date, "today", lambda cls: cls.fromtimestamp(time.time()))


def _as(cls: type, when: dt.datetime) -> dt.datetime:
    """The same time, as an instance of the class that was called."""
    parts = (when.year, when.month, when.day, when.hour, when.minute, when.second, when.microsecond)
    same: dt.datetime = cls(*parts, tzinfo=when.tzinfo)
    return same


def _replace(cls: type, name: str, function: Callable[..., Any]) -> None:
    """Set a class method of a C class, which Python code normally cannot."""
    (attributes,) = gc.get_referents(cls.__dict__)
    attributes[name] = classmethod(functools.wraps(getattr(cls, name))(function))
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))


if OFF_S:
    shift_time()
    shift_datetime()
