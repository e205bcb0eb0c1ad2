"""`crawlyard status`: the counts of the database and the broker, also if one of them is down."""

import io
import sys

import pytest
import redis

from console.embedded.servers import Services
from support.command import SECRET, Run, Sql
from support.processes.workers import free_port

ROWS = """
    INSERT INTO account (id) VALUES ('a');
    INSERT INTO job (id, "accountId", command, full_path) SELECT n::text, 'a', 'issues', n FROM generate_series(1, 9) n;
    INSERT INTO job_queue (id, web_app_job_id, account_id, status, ready, held, scheduled_at, settled_at)
    SELECT n::text, n::text, 'a', CASE n WHEN 1 THEN 'completed' WHEN 2 THEN 'processing' ELSE 'pending' END,
           n <> 3, n = 4, now() - make_interval(mins => n), CASE n WHEN 1 THEN now() END FROM generate_series(1, 9) n;
    INSERT INTO job_assignment_mapping (id, web_app_job_id, crawler_job_id, status) VALUES ('x', '2', 'x', 'running');
    INSERT INTO socket_connection (id, last_heartbeat, goodbye_at, is_active, closed_at)
    VALUES ('live', now(), NULL, true, NULL), ('leaving', now(), now(), true, NULL),
           ('silent', now() - interval '1 day', NULL, true, NULL), ('closed', now(), NULL, false, now());
    INSERT INTO job_error_log (id, job_id, error_type, error_message, timestamp)
    VALUES ('1', '1', 'Stalled', '', now()), ('2', '1', E'\\x1b[31mevil', '', now()),
           ('3', '1', E'\\x1b[31mevil', '', now()), ('4', '1', 'Stalled', '', now() - interval '2 hours'),
           ('5', '1', 'Stalled', '', now() - interval '2 hours');
    INSERT INTO rejected_message (id, reason, detail) VALUES ('1', 'invalid', '');
    INSERT INTO account_lane (account_id, held_at, held_reason) VALUES ('a', now(), 'paused');
    UPDATE liveness_state SET last_sweep_at = now(), grace_until = now() + interval '1 minute';
"""


def test_status_counts_everything(sql: Sql, broker: str, run: Run) -> None:
    """Every figure matches the rows and messages that the test created."""
    sql(ROWS)
    with redis.Redis.from_url(broker) as client:
        client.lpush("dispatch", "x", "y")
        client.lpush("dispatch\x06\x163", "with a priority")
        client.zadd("unacked_index", {"tag": 1})

    output = run("status", "--json")
    database = output.json["database"]

    assert output.code == 0
    assert database["queue"].pop("oldest_ready") >= 9 * 60
    assert database["queue"] == {
        "ready": 5, "backed_off": 1, "held": 1, "processing": 1, "completed": 1, "failed": 0
    }  # fmt: skip
    assert database["connections"] == {
        "active": 3, "silent": 1, "said_goodbye": 1, "link_lost": 0, "closed_last_hour": 1, "seats": 10
    }  # fmt: skip
    assert database["assignments"] == {"assigned": 0, "running": 1}
    assert list(database["failures_last_hour"].items()) == [("\x1b[31mevil", 2), ("Stalled", 1)]
    assert database["rejected_last_hour"] == {"invalid": 1}
    assert database["held_accounts"] == {"paused": 1}
    assert database["jobs"] == {"queued": 9}
    assert 0 <= database["sweep"]["age"] < 60 > database["sweep"]["grace_left"] > 0
    assert output.json["broker"] == {"queues": {"crawler": 0, "dispatch": 3, "upkeep": 0}, "unacked": 1}


def test_status_shows_crawler_text_without_control_codes(sql: Sql, broker: str, run: Run) -> None:
    """Control codes in a crawler's text are shown as dots."""
    sql(ROWS)
    output = run("status")
    assert output.code == 0
    assert "·[31mevil" in output.out
    assert "\x1b" not in output.out


def test_status_shows_the_database_without_the_broker(
    database: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the broker, the database's panels and an error line are printed, and the exit code is 1."""
    monkeypatch.setenv("BROKER_URL", f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
    output = run("status")
    assert output.code == 1
    assert "The broker cannot be used" in output.out
    assert "oldest ready" in output.out
    assert SECRET not in output.out


def test_status_shows_the_broker_without_the_database(services: Services, run: Run, nowhere: str) -> None:
    """Without the database, the broker's state is printed, and the exit code is 1."""
    output = run("status", "--json")
    assert (output.code, output.json["database"]) == (1, None)
    assert "Connection refused" in output.json["database_error"]
    assert output.json["broker"]["unacked"] == 0
    assert SECRET not in output.out


class Terminal(io.StringIO):
    """A buffer that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_are_used_only_on_terminals_that_allow_them(
    no_color: str, database: str, broker: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal gets colours unless NO_COLOR is set."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")

    run("status")

    assert "never" in terminal.getvalue()
    assert ("\x1b[31mnever" in terminal.getvalue()) == (not no_color)
