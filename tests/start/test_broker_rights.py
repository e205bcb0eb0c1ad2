"""A worker whose user of the broker may do too little waits, says so, and goes on once it may."""

import logging
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from celery import Celery, beat
from celery.schedules import schedule
from redis.exceptions import NoPermissionError, OutOfMemoryError

from console.checks import processes
from console.checks.doctor.broker import _wake_ups
from persistence.settings import settings
from support.command import Run
from support.processes.programs import program
from support.processes.workers import Valkey, running, wait_until
from tasks.start import broker_rights
from tasks.start.broker_client import open_client
from tasks.start.broker_rights import (
    CONSUME,
    PUBLISH,
    WAKE_UPS,
    Lack,
    Need,
    lack_of,
    try_to_publish,
    wait_for_rights,
)
from tasks.wake_up import WakeUp, channel
from tasks.worker import liveness, logs
from tasks.worker.heartbeat_file import LivenessFile, ProcessLiveness, read

RULES = ("on", ">poor", "~*", "&*", "+@all")


@pytest.fixture
def valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Valkey]:
    """An empty server, to which the settings lead as the user `poor`."""
    server = Valkey(tmp_path)
    monkeypatch.setenv("BROKER_URL", server.url.replace("//", "//poor:poor@"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings.cache_clear()
    with running(server):
        yield server
    settings.cache_clear()


def permit(server: Valkey, *rules: str) -> None:
    """Give the user these rights."""
    server.client.execute_command("ACL", "SETUSER", "poor", "reset", *RULES, *rules)


def test_the_rights_are_checked_without_running_anything(valkey: Valkey) -> None:
    """A message in a queue stays there, and no key is made."""
    permit(valkey)
    valkey.client.lpush("crawler", "a message")
    assert not lack_of(CONSUME)
    try_to_publish()
    assert valkey.client.keys() == ["crawler"]
    assert valkey.client.lrange("crawler", 0, -1) == ["a message"]


def test_a_full_server_or_a_replica_lacks_no_right(valkey: Valkey) -> None:
    """But nothing can be published there."""
    permit(valkey)
    valkey.client.config_set("maxmemory", 1)
    assert not lack_of(CONSUME)
    with pytest.raises(OutOfMemoryError):
        try_to_publish()
    valkey.client.config_set("maxmemory", 0)
    valkey.client.replicaof("127.0.0.1", "9")
    assert not lack_of(CONSUME)
    with pytest.raises(redis.ReadOnlyError):
        try_to_publish()


def test_a_program_waits_longer_each_time(valkey: Valkey) -> None:
    """One line each time, and the first after the rights are there is the last."""
    permit(valkey, "-lpush")
    reasons: list[str] = []
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            permit(valkey)

    wait_for_rights(PUBLISH, reasons.append, pause)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert set(reasons) == {"the broker's user poor may not use the command LPUSH"}


def test_a_broker_that_is_away_keeps_nobody_waiting(valkey: Valkey) -> None:
    """Connecting is retried elsewhere."""
    valkey.kill()
    wait_for_rights(PUBLISH, pytest.fail, pytest.fail)


def test_a_process_that_is_refused_is_not_well_until_it_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason stands in its file, in one line, below the bound."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(liveness._worker, "file", LivenessFile("worker", timedelta(seconds=30)))
    (written,) = tmp_path.glob("crawlyard-*/worker-*")
    try:
        liveness.refused("no right to BRPOP\nat all →")
        assert written.read_text() == "30.0\nno right to BRPOP at all ?"
        liveness.on_broker_answer()
        assert written.read_text() == "30.0"
    finally:
        liveness._end()


def test_a_refused_process_is_neither_healthy_nor_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart would not help it."""
    here = ProcessLiveness(7, timedelta(0), timedelta(seconds=30), "no right to BRPOP")
    monkeypatch.setattr(processes.heartbeat_file, "read", lambda _kind: iter([here]))
    monkeypatch.setattr(processes, "try_broker", lambda: None)
    monkeypatch.setattr(processes.os, "kill", pytest.fail)
    (check,) = processes.check_liveness("worker", end_stuck=True)
    assert (check.healthy, check.detail) == (False, "consumes nothing: no right to BRPOP")


def test_a_process_whose_password_is_refused_is_not_excused(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that is away excuses it; one that answers does not."""
    silent = ProcessLiveness(7, timedelta(minutes=9), timedelta(seconds=30))
    monkeypatch.setattr(processes.heartbeat_file, "read", lambda _kind: iter([silent]))
    (refused,) = processes.check_liveness("worker")
    assert not refused.healthy
    assert "The broker refuses: invalid username-password pair" in refused.detail
    valkey.kill()
    (excused,) = processes.check_liveness("worker")
    assert excused.healthy


def test_gateways_are_woken_up_with_the_rights_that_are_named(valkey: Valkey) -> None:
    """Without them the doctor says which; nothing fails, and nothing comes."""
    permit(valkey, "resetchannels")
    lack = lack_of(WAKE_UPS)
    assert lack.channels == ("/0.crawlyard.orders",)
    (finding,) = _wake_ups(lack)
    assert "find orders up to 50 ms later" in finding.detail
    WakeUp().send()

    valkey.client.execute_command(*lack.remedy.split())
    assert not lack_of(WAKE_UPS)
    assert _wake_ups(lack_of(WAKE_UPS)) == []
    with open_client(settings().broker_url) as client, client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(channel(client))
        WakeUp().send()
        assert wait_until(heard.get_message, "a wake-up")


@pytest.mark.programs
def test_a_worker_without_rights_says_so_and_consumes_once_it_may(
    valkey: Valkey, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    `health --worker` says no meanwhile, with the reason. There is no traceback.

    Then it lacks channels, with which it does not connect again and again.
    """
    permit(valkey, "-brpop")
    monkeypatch.setattr(processes, "RECOVERY_S", 0.5)
    log = tmp_path / "log"
    command = [sys.executable, "-m", "console.main", "worker", "--pool", "solo"]
    with (
        log.open("w") as output,
        program(command, stderr=output, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}),
    ):
        wait_until(lambda: "broker_rights_missing" in log.read_text(), "it says so")
        output_of_health = run("health", "--worker")
        assert output_of_health.code == 1
        assert (
            "consumes nothing: the broker's user poor may not use the command BRPOP" in output_of_health.out
        )

        permit(valkey, "resetchannels")  # too late for the start to see it
        wait_until(lambda: " ready." in log.read_text(), "it consumes")
        valkey.client.lpush("crawler", "junk")
        wait_until(lambda: not valkey.client.exists("crawler"), "it consumes")
        wait_until(lambda: run("health", "--worker").code == 0, "it is well")
        assert [reading.refused for reading in read("worker")] == [""]
    said = log.read_text()
    assert said.count("remote_control_off") == 1
    assert "Traceback" not in said
    assert said.count("Connection to broker lost") == 0


def test_the_words_of_redis_6_are_known(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """They name neither the key nor the channel, which we know."""
    words = (
        "this user has no permissions to run the 'lpush' command or its subcommand",
        "this user has no permissions to access one of the keys used as arguments",
        "this user has no permissions to access one of the channels used as arguments",
    )
    needs = (Need("LPUSH", keys=("a",)), Need("TIME", keys=("b",)), Need("PUBLISH", channels=("c",)))
    monkeypatch.setattr(
        broker_rights, "_rehearse", lambda _needs: (3, [NoPermissionError(text) for text in words])
    )
    assert lack_of(needs) == Lack("poor", ("LPUSH",), ("b",), ("/3.c",))
    assert lack_of(needs).remedy == "ACL SETUSER poor +lpush ~b &/3.c"


def test_beat_says_in_one_line_that_it_cannot_publish(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A right that is lost while it runs, or a broker that is away, costs no traceback for each task that is due."""
    logger = logging.getLogger("celery.beat")
    monkeypatch.setattr(logger, "filters", [])
    logger.addFilter(logs.shorten_failed_publish)
    other = Celery()  # the process's app would read its settings here
    scheduler = beat.Scheduler(other, lazy=True)
    entry = scheduler.Entry(name="sweep", task="connections.expire_dead", app=other, schedule=schedule(1.0))

    def refuse(*_: object, **__: object) -> None:
        raise NoPermissionError("User poor has no permissions to run the 'lpush' command")

    monkeypatch.setattr(scheduler, "apply_async", refuse)
    scheduler.apply_entry(entry)
    (record,) = (one for one in caplog.records if one.levelname == "ERROR")
    assert record.getMessage() == "Message Error: User poor has no permissions to run the 'lpush' command"
    assert record.exc_info is None


def test_beat_without_rights_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has published."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = LivenessFile("beat", timedelta(seconds=60))
    monkeypatch.setattr(liveness._worker, "beat", file)
    (written,) = tmp_path.glob("crawlyard-*/beat-*")
    liveness.refused("no right to LPUSH")
    assert written.read_text() == "60.0\nno right to LPUSH"
    liveness._served(file)
    assert written.read_text() == "60.0"
    file.close()
