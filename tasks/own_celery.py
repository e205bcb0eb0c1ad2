"""
Celery without its own environment variables: they may belong to another application of the host.

Celery reads these before or instead of its configuration:

    CELERY_BROKER_URL, CELERY_BROKER_READ_URL,     replace the configuration at each access  ┐
    CELERY_BROKER_WRITE_URL, CELERY_RESULT_BACKEND                                           │ `OwnCelery`
    CELERY_LOADER                                  chooses who reads the configuration       │ overrides
    CELERY_CONFIG_MODULE                           read where no configuration is given      │
    DJANGO_SETTINGS_MODULE                         hooks Django into the worker              ┘
    CELERY_RDBSIG, CELERY_RDB_HOST, CELERY_RDB_PORT  a debugger that listens on SIGUSR2      ┐
    CELERY_CUSTOM_WORKER_POOL                      the class of the pool named `custom`      │ `crawlyard` drops
    CELERY_WORKER_…                                how many ids of messages a worker keeps   │ them before
    CELERY_BENCH, CELERY_BENCH_EVERY               prints rates                              │ Celery reads them
    CELERY_TRACE_APP, CELERY_SKIP_CHECKS           traces apps; skips Django's checks        ┘

Those named CELERY_LOG_… a worker sets itself, for its children. The command `celery` reads further ones as its own
options; what it passes on in CELERY_BROKER_URL does not count either.
"""

import os
from typing import Any, Final

from celery import Celery
from celery.app.utils import Settings
from celery.loaders.app import AppLoader

_BROKER: Final = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")

VARIABLES: Final = (
    *_BROKER,
    "CELERY_RESULT_BACKEND",
    "CELERY_LOADER",
    "CELERY_CONFIG_MODULE",
    "CELERY_RDBSIG",
    "CELERY_RDB_HOST",
    "CELERY_RDB_PORT",
    "CELERY_CUSTOM_WORKER_POOL",
    "CELERY_WORKER_REVOKES_MAX",
    "CELERY_WORKER_REVOKE_EXPIRES",
    "CELERY_WORKER_SUCCESSFUL_MAX",
    "CELERY_WORKER_SUCCESSFUL_EXPIRES",
    "CELERY_BENCH",
    "CELERY_BENCH_EVERY",
    "CELERY_TRACE_APP",
    "CELERY_SKIP_CHECKS",
)
"""Every variable of Celery's that its library reads, but for CELERY_LOG_…."""


class _OwnSettings(Settings):
    """Celery's configuration as it was given: no variable replaces a part of it."""

    @property
    def broker_url(self) -> Any:
        return self.get("broker_url")

    broker_read_url = broker_url
    broker_write_url = broker_url

    @property
    def result_backend(self) -> Any:
        return self.get("result_backend")


class _OwnLoader(AppLoader):
    """Celery's loader, without a module of configuration that a variable names."""

    def read_configuration(self, _env: str = "") -> dict[str, Any]:
        return {}


class OwnCelery(Celery):  # type: ignore[misc, unused-ignore]
    """A Celery app that is configured by what it is given, and by nothing else."""

    def __init__(self, main: str, **options: Any) -> None:
        super().__init__(main, loader=_OwnLoader, fixups=[], **options)
        # Celery replaces what this object holds when it reads the configuration, never the object. Its own
        # __setattr__ would store a key.
        object.__setattr__(self._conf, "__class__", _OwnSettings)


def foreign_variables(broker_url: str) -> list[str]:
    """Return the names of Celery's variables that are set, and differ from what counts instead."""
    same = dict.fromkeys(_BROKER, broker_url)
    return [name for name in VARIABLES if os.environ.get(name) and os.environ[name] != same.get(name)]


def describe_foreign(names: list[str]) -> str:
    """Say in one line that these variables do not count."""
    verb = "is" if len(names) == 1 else "are"
    return f"{', '.join(names)} {verb} ignored: only BROKER_URL and the settings of Crawlyard count."


def drop_variables() -> None:
    """Take Celery's variables out of this process and its children; only for processes that are all ours."""
    for name in VARIABLES:
        os.environ.pop(name, None)
