"""The image and docker-compose.yml, checked without Docker."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from console.checks.processes import BROKER_TIMEOUT_S, RECOVERY_S
from console.main import crawlyard
from gateway.listeners.addresses import read_addresses
from persistence.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

OURS = {"migrate", "worker-crawler", "worker-dispatch", "gateway", "beat"}
ONE_SHOT = {"migrate"}
WORKERS = {"worker-crawler", "worker-dispatch"}

INTERPOLATED = re.compile(r"\$\{(\w+):-([^}]*)\}")

every_service = pytest.mark.parametrize("name", SERVICES)
every_service_of_ours = pytest.mark.parametrize("name", sorted(OURS))


@pytest.fixture(scope="module")
def celery() -> dict[str, Any]:
    """The settings of celeryconfig if only the URLs are set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    script = """
import celeryconfig as c, json
print(json.dumps([c.task_time_limit, c.worker_soft_shutdown_timeout, [q.name for q in c.task_queues]]))
"""
    printed = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {"DATABASE_URL": "postgresql://db/x", "BROKER_URL": "redis://broker"},
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    return dict(zip(("time_limit", "soft_shutdown", "queues"), json.loads(printed), strict=True))


def with_defaults(text: str) -> str:
    """The text as compose reads it without any variable."""
    return INTERPOLATED.sub(r"\2", text)


def seconds(duration: str) -> int:
    """Parse a duration such as `130s`; no other unit is used."""
    assert duration.endswith("s")
    return int(duration[:-1])


def commands() -> list[list[str]]:
    """Every command of ours that a container runs, including healthchecks."""
    run = [[with_defaults(word) for word in SERVICES[name]["command"]] for name in sorted(OURS)]
    checks = [service["healthcheck"].get("test", []) for service in SERVICES.values()]
    return run + [words[2:] for words in checks if words[1:2] == ["crawlyard"]]


def test_the_compose_file_has_the_expected_services() -> None:
    """There are two servers, the migration, two kinds of workers, a gateway and beat."""
    assert set(SERVICES) == {"postgres", "valkey"} | OURS


@every_service
def test_every_service_has_a_healthcheck_and_restarts_or_runs_once(name: str) -> None:
    """A service that dies is restarted, and one that hangs is detected."""
    service = SERVICES[name]

    if name in ONE_SHOT:
        assert service["restart"] == "no"
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        assert seconds(service["healthcheck"]["timeout"]) <= seconds(service["healthcheck"]["interval"])


@pytest.mark.parametrize("name", sorted(OURS - ONE_SHOT))
def test_a_stuck_service_is_killed_and_restarted(name: str) -> None:
    """Docker restarts stopped containers, not unhealthy ones, so the healthcheck kills a stuck process."""
    kind = "worker" if name in WORKERS else name

    assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "crawlyard", "health", f"--{kind}", "--end-stuck"]
    assert seconds(SERVICES[name]["healthcheck"]["timeout"]) > RECOVERY_S + BROKER_TIMEOUT_S


@every_service
def test_services_have_minimal_privileges(name: str) -> None:
    """No root, no capabilities, a read-only file system, and limits of memory and processes."""
    service = SERVICES[name]

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert any(mount.partition(":")[0] == "/tmp" for mount in service["tmpfs"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & service.keys()


@every_service
def test_no_port_is_published_beyond_this_machine(name: str) -> None:
    """Only the two servers and the gateway publish ports, bound to 127.0.0.1."""
    ports = SERVICES[name].get("ports", [])

    assert bool(ports) == (name in {"postgres", "valkey", "gateway"})
    assert all(with_defaults(port).startswith("127.0.0.1:") for port in ports)


@every_service
def test_images_are_pinned(name: str) -> None:
    """Each image has a version; ours has the project's."""
    image, _, tag = SERVICES[name]["image"].partition(":")

    assert re.match(r"\d+\.\d+", tag)
    if name in OURS:
        assert (image, tag) == ("crawlyard", PROJECT["project"]["version"])


@every_service_of_ours
def test_secrets_are_files(name: str) -> None:
    """The environment contains no password, because inspecting a container shows it."""
    service = SERVICES[name]

    own = {
        name: value
        for name, value in service["environment"].items()
        if not name.startswith("CRAWLYARD_GATEWAY_")
    }
    assert own == {f"{url.upper()}_FILE": f"/run/secrets/{url}" for url in ("database_url", "broker_url")}
    assert service["secrets"] == ["database_url", "broker_url"]


def test_every_secret_is_a_file_outside_the_image() -> None:
    """Compose can give a read-only container only secrets from files."""
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}

    assert COMPOSE["secrets"] == {secret: {"file": f"./secrets/{secret}"} for secret in used}
    assert "!secrets" not in (ROOT / ".dockerignore").read_text(encoding="utf-8").split()


@pytest.mark.parametrize("name", sorted(OURS - ONE_SHOT))
def test_workers_wait_for_the_schema_and_the_broker(name: str) -> None:
    """The migration in turn waits for the database."""
    assert SERVICES[name]["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"},
        "valkey": {"condition": "service_healthy"},
    }
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_a_worker_gets_time_to_finish_its_units(name: str, celery: dict[str, Any]) -> None:
    """The longest unit and the soft shutdown end before Docker kills the container."""
    grace = seconds(SERVICES[name]["stop_grace_period"])

    assert grace >= celery["time_limit"] + celery["soft_shutdown"] + 20


def test_the_gateway_gets_time_to_drain_and_descriptors_for_its_links() -> None:
    """It ends within 25 s of SIGTERM, and listens where its port is published."""
    gateway = SERVICES["gateway"]
    (port,) = gateway["ports"]

    assert seconds(gateway["stop_grace_period"]) > 25
    assert gateway["ulimits"]["nofile"] >= 10_000
    (address,) = read_addresses(gateway["environment"]["CRAWLYARD_GATEWAY_LISTEN"])
    assert str(address.port) == port.rpartition(":")[2]


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_workers_can_be_scaled(name: str) -> None:
    """Workers have no fixed name, port or volume."""
    assert not {"container_name", "hostname", "ports", "volumes", "networks"} & SERVICES[name].keys()
    assert "--name" not in SERVICES[name]["command"]


def test_every_queue_has_a_worker(celery: dict[str, Any]) -> None:
    """Each queue has exactly one kind of worker."""
    served = [words[words.index("--queues") + 1] for words in commands() if words[0] == "worker"]

    assert sorted(",".join(served).split(",")) == sorted(celery["queues"])


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_can_be_run(words: list[str]) -> None:
    """`crawlyard` accepts the command and its options."""
    context = click.Context(crawlyard, info_name="crawlyard")
    name, command, rest = crawlyard.resolve_command(context, words)

    assert command is not None
    command.make_context(name, rest, parent=context)


def test_the_broker_refuses_messages_rather_than_dropping_them() -> None:
    """It is full before the kernel would kill it, and keeps nothing on disk."""
    command = SERVICES["valkey"]["command"]
    options = dict(zip(command[2::2], command[3::2], strict=True))
    limit = SERVICES["valkey"]["deploy"]["resources"]["limits"]["memory"]

    assert options["--maxmemory-policy"] == "noeviction"
    assert int(options["--maxmemory"].removesuffix("mb")) < int(limit.removesuffix("M"))
    assert (options["--save"], options["--appendonly"]) == ("", "no")
    assert "volumes" not in SERVICES["valkey"]


def test_every_variable_is_in_the_example_file() -> None:
    """The example explains every variable of compose, and sets only existing ones."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    offered = set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))
    asked = {
        name for name, _ in INTERPOLATED.findall((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    }
    known = {PREFIX + field.upper() for field in Settings.model_fields}

    assert asked <= offered
    assert {name for name in offered if name.startswith(PREFIX)} <= known
    assert not {name for name in offered - asked if not name.startswith(PREFIX)}


# --- The image ---


def test_the_image_runs_the_command_as_an_unprivileged_user() -> None:
    """It runs as the user that compose names, without a shell."""
    final = DOCKERFILE.split("\nFROM ")[-1]

    assert 'ENTRYPOINT ["crawlyard"]' in final
    assert [f"USER {SERVICES[name]['user']}" in final for name in sorted(OURS)] == [True] * len(OURS)
    # Build tools stay in the build stage.
    assert "RUN" not in final


def test_the_image_contains_exactly_the_distribution() -> None:
    """The copied files exist, pass .dockerignore, and include everything in the wheel."""
    copied = {
        source.rstrip("/")
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    }
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}

    assert "*" in ignored
    assert copied == allowed
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]) <= copied
    assert all((ROOT / source).exists() for source in copied)


def test_everything_in_the_image_is_verified_by_hash() -> None:
    """Every install and the build require hashes; the results are installed without network access."""
    steps = [
        step for step in re.split(r"&&|\n(?=[A-Z])", DOCKERFILE) if re.search(r"\b(install|build) ", step)
    ]
    steps = [step for step in steps if re.search(r"\b(pip install|uv build) ", step)]

    assert len(steps) == 4
    assert all("--require-hashes" in step or "--offline --no-deps" in step for step in steps)
