"""The settings of Celery on which the guarantees about messages depend."""

import runpy
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from persistence.settings import settings
from tasks.app import app

CONFIGURATION = Path(__file__).parents[2] / "celeryconfig.py"


@pytest.fixture
def configured(services: object, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings of the file with these variables set."""

    def configured(**variables: str) -> dict[str, Any]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        return runpy.run_path(str(CONFIGURATION))

    yield configured
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.parametrize(("wait", "statement"), [("60", "30"), ("600", "30"), ("6", "300")])
def test_a_unit_ends_before_its_time_limit_and_the_limit_before_redelivery(
    configured: Any, wait: str, statement: str
) -> None:
    """database_wait plus one statement < time limit < visibility timeout, whatever the settings."""
    config = configured(CRAWLYARD_DATABASE_WAIT=wait, CRAWLYARD_STATEMENT_TIMEOUT=statement)

    longest = timedelta(seconds=float(wait) + float(statement))
    limit = timedelta(seconds=config["task_time_limit"])
    visible_again = timedelta(seconds=config["broker_transport_options"]["visibility_timeout"])
    assert longest < limit < visible_again
    assert visible_again >= timedelta(seconds=120)


def test_a_message_is_acknowledged_only_after_it_was_processed(configured: Any) -> None:
    """It is not acknowledged early, on a timeout, or by Celery's own handling of a lost child."""
    config = configured()

    names = ("acks_late", "acks_on_timeout", "reject_on_worker_lost", "retry_on_worker_lost")
    assert [config[f"task_{name}"] for name in names] == [True, False, False, False]
    assert config["worker_prefetch_multiplier"] == 1
    assert (config["result_backend"], config["accept_content"]) == (None, ["json"])


def test_a_certificate_is_verified_unless_the_url_disables_it(configured: Any) -> None:
    """By default kombu accepts any certificate."""
    assert configured(BROKER_URL="rediss://h/0")["broker_use_ssl"] == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert "broker_use_ssl" not in configured(BROKER_URL="rediss://h/0?ssl_cert_reqs=none")
    assert "broker_use_ssl" not in configured(BROKER_URL="redis://h/0")


@pytest.mark.parametrize(
    "task", ["connections.expire_dead", "connections.heartbeat", "connections.disconnect"]
)
def test_the_sweep_and_all_crawler_messages_share_one_queue(services: object, task: str) -> None:
    """A sweep cannot overtake the reports that it judges by."""
    assert _queue(task) == _queue("crawler.frames") == "crawler"


def _queue(task: str) -> str:
    return str(app.amqp.router.route({}, task)["queue"].name)
