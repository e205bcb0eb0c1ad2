"""Settings come from the environment; a wrong one is reported by name in one line, without its value."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, make_url

from persistence.exceptions import SettingsError
from persistence.settings import Settings, read_settings

URLS = {"DATABASE_URL": "postgresql://me@localhost/crawlyard", "BROKER_URL": "redis://localhost:6379/0"}
SECRET = "hunter2Zq7"

Read = Callable[..., Settings]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Read the settings from an environment that contains nothing else; None removes a variable."""

    def in_environment(**variables: str | None) -> Settings:
        for name in os.environ:
            monkeypatch.delenv(name)
        for name, value in (URLS | variables).items():
            if value is not None:
                monkeypatch.setenv(name, value)
        return read_settings()

    return in_environment


@pytest.fixture
def complaint(read: Read) -> Callable[..., str]:
    """Read wrong settings, and return the error, which is one line."""

    def read_wrong(**variables: str | None) -> str:
        with pytest.raises(SettingsError) as raised:
            read(**variables)
        text = str(raised.value)
        assert len(text.splitlines()) == 1
        assert SECRET not in text
        # A traceback does not show it either.
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__
        return text

    return read_wrong


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "POSTGRES"])
def test_every_form_of_database_url_names_psycopg(scheme: str, read: Read) -> None:
    """The schemes of web apps, libpq and SQLAlchemy are accepted."""
    url = read(DATABASE_URL=f"{scheme}://me:pw@db:5433/crawlyard").database_url

    assert url == "postgresql+psycopg://me:pw@db:5433/crawlyard"


def test_parameters_that_only_an_orm_knows_are_left_out(read: Read) -> None:
    """They would make libpq fail. The parameters of libpq stay, even repeated ones, and the schema is read."""
    settings = read(
        DATABASE_URL="postgres://db/x?schema=public&connection_limit=5&pool_timeout=3&pgbouncer=true"
        "&statement_cache_size=0&socket_timeout=9&sslmode=verify-full&options=-c%20a%3Db&sslmode=require"
    )

    assert settings.database_schema == "public"
    assert dict(make_url(settings.engine_url).query) == {
        "sslmode": ("verify-full", "require"),
        "options": "-c a=b",
    }


def test_a_percent_encoded_password_stays_intact(read: Read) -> None:
    """Special characters survive."""
    url = make_url(read(DATABASE_URL="postgres://m%40e:p%40s%2Fs%3A%23%25%3F@db/x").database_url)

    assert (url.username, url.password, url.host) == ("m@e", "p@s/s:#%?", "db")


def test_a_unix_socket_url_is_accepted(read: Read) -> None:
    """A URL without a host keeps its slashes."""
    url = make_url(read(DATABASE_URL="postgresql:///crawlyard?host=/var/run/postgresql").database_url)

    assert (url.host, url.database, url.query["host"]) == (None, "crawlyard", "/var/run/postgresql")


@pytest.mark.parametrize(
    "url", ["redis://h:6379/0", "rediss://:pw@h/1?ssl_cert_reqs=required", "redis+socket:///run/redis.sock"]
)
def test_a_redis_url_stays_as_it_is(url: str, read: Read) -> None:
    """Every form of a Redis URL is accepted."""
    assert read(BROKER_URL=url).broker_url == url


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_url_is_asked_for_with_an_example(
    name: str, value: str | None, complaint: Callable[..., str]
) -> None:
    """An empty variable counts as missing."""
    assert complaint(**{name: value}).startswith(f"{name} must be set, for example to ")


def test_all_missing_settings_are_reported_at_once(complaint: Callable[..., str]) -> None:
    """One line names all of them."""
    assert complaint(DATABASE_URL=None, BROKER_URL=None) == (
        "DATABASE_URL must be set, for example to postgresql://user:password@localhost:5432/crawlyard; "
        "BROKER_URL must be set, for example to redis://localhost:6379/0"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DATABASE_URL", f"mysql://me:{SECRET}@h/x", "must begin with postgres://"),
        ("DATABASE_URL", SECRET, "must begin with postgres://"),
        ("DATABASE_URL", f"postgres://me:{SECRET}[@h/x", "cannot be read as a URL"),
        ("DATABASE_URL", f"postgres://me:{SECRET}\u2100@h/x", "cannot be read as a URL"),
        ("DATABASE_URL", f"postgres://me:{SECRET}/@h/x", "cannot be read as a URL"),
        ("DATABASE_URL", f"postgres://me:{SECRET}#@h/x", "cannot be read as a URL"),
        ("DATABASE_URL", f"postgres://me:12#{SECRET}@h/x", "cannot be read as a URL"),
        ("DATABASE_URL", "postgres://h:0/x", "cannot be read as a URL"),
        ("BROKER_URL", f"amqp://me:{SECRET}@h", "must begin with redis://"),
        ("BROKER_URL", f"redis://:{SECRET}/@h", "cannot be read as a URL"),
        ("BROKER_URL", f"redis://:{SECRET}@a;redis://:{SECRET}@b", "must name one server"),
        ("CRAWLYARD_SWEEP_INTERVAL", SECRET, "must be a number of seconds"),
        ("CRAWLYARD_SWEEP_INTERVAL", "nan", "must be a number of seconds"),
        ("CRAWLYARD_STALL_TIMEOUT", "inf", "must be a number of seconds"),
        ("CRAWLYARD_RETRY_DELAY", "0", "must be a number of seconds, from 0.001 to 604800"),
        ("CRAWLYARD_RETRY_DELAY", "-5", "must be a number of seconds, from 0.001 to 604800"),
        ("CRAWLYARD_RETRY_DELAY", "1e-9", "must be a number of seconds, from 0.001 to 604800"),
        ("CRAWLYARD_RETRY_DELAY", "none", "must be a number of seconds, from 0.001 to 604800"),
        ("CRAWLYARD_LOCK_TIMEOUT", "0.0004", "must be a number of seconds, from 0.001 to 60"),
        ("CRAWLYARD_STATEMENT_TIMEOUT", "2592000", "must be a number of seconds, from 0.1 to 3600"),
        ("CRAWLYARD_CONNECTION_TIMEOUT", "999999999999", "must be a number of seconds, from 0.001 to 604800"),
        (
            "CRAWLYARD_KEEP_JOBS",
            "999999999999",
            "must be a number of seconds, from 0.001 to 3153600000, or none",
        ),
        ("CRAWLYARD_ACCOUNT_CAP", "3000000000", "input should be less than or equal to 1000000"),
        ("CRAWLYARD_MAX_ATTEMPTS", SECRET, "input should be a valid integer"),
        ("CRAWLYARD_MAX_ATTEMPTS", "0", "input should be greater than or equal to 1"),
        ("CRAWLYARD_POOL_SIZE", "101", "input should be less than or equal to 100"),
        ("CRAWLYARD_ACCOUNT_CAP", "0", "input should be greater than or equal to 1"),
        ("CRAWLYARD_HOST_CAP", "many", "input should be a valid integer"),
        ("CRAWLYARD_MIGRATE_ON_START", SECRET, "input should be a valid boolean"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    name: str, value: str, expected: str, complaint: Callable[..., str]
) -> None:
    """The line does not show the value, which may be a password."""
    assert complaint(**{name: value}).startswith(f"{name} {expected}")


def test_every_wrong_setting_is_named(complaint: Callable[..., str]) -> None:
    """One line names all wrong settings."""
    assert complaint(CRAWLYARD_RETRY_DELAY="x", CRAWLYARD_POOL_SIZE="y") == (
        "CRAWLYARD_RETRY_DELAY must be a number of seconds, from 0.001 to 604800; "
        "CRAWLYARD_POOL_SIZE input should be a valid integer, unable to parse string as an integer"
    )


def _timing(timeout: str, interval: str, sweep: str) -> dict[str, str]:
    return {
        "CRAWLYARD_CONNECTION_TIMEOUT": timeout,
        "CRAWLYARD_HEARTBEAT_INTERVAL": interval,
        "CRAWLYARD_SWEEP_INTERVAL": sweep,
    }


@pytest.mark.parametrize("timing", [_timing("90", "30", "14.9"), _timing("81", "30", "10")])
def test_two_sweeps_fit_into_the_connection_timeout(timing: dict[str, str], read: Read) -> None:
    """The outage gap, timeout minus two heartbeat intervals, must exceed two sweeps."""
    settings = read(**timing)

    assert settings.outage_gap > 2 * settings.sweep_interval


@pytest.mark.parametrize(
    "timing", [_timing("90", "30", "15"), _timing("80", "30", "10"), _timing("60", "30", "10")]
)
def test_settings_by_which_every_sweep_looks_like_an_outage_are_refused(
    timing: dict[str, str], complaint: Callable[..., str]
) -> None:
    """The line names all three settings, because any of them may be wrong."""
    assert complaint(**timing) == (
        "CRAWLYARD_CONNECTION_TIMEOUT must exceed twice CRAWLYARD_HEARTBEAT_INTERVAL plus twice "
        "CRAWLYARD_SWEEP_INTERVAL, or every sweep would look like an outage"
    )


def test_the_defaults_match_the_platform(read: Read) -> None:
    """The defaults are the platform's own values."""
    settings = read()

    assert settings.connection_timeout == timedelta(seconds=90)
    assert settings.heartbeat_interval == timedelta(seconds=30)
    assert settings.outage_gap == timedelta(seconds=30)
    assert settings.stall_timeout == timedelta(hours=1)
    assert settings.start_timeout == timedelta(minutes=5)
    assert settings.retry_delay == timedelta(seconds=5)
    assert settings.max_attempts == 3
    assert settings.sweep_interval == timedelta(seconds=10)
    assert settings.absence_grace == timedelta(seconds=60)
    assert settings.database_wait == timedelta(seconds=60)
    assert (settings.account_cap, settings.host_cap) == (None, None)
    assert settings.keep_jobs == settings.keep_events == settings.keep_connections == timedelta(days=7)
    assert settings.keep_errors == settings.keep_rejected == timedelta(days=30)
    assert settings.keep_handled == timedelta(days=1)
    assert settings.lock_timeout < timedelta(seconds=1), "the server's deadlock_timeout"


def test_durations_are_seconds(read: Read) -> None:
    """Fractions are allowed."""
    assert read(CRAWLYARD_SWEEP_INTERVAL="0.5").sweep_interval == timedelta(milliseconds=500)


def test_a_url_may_stand_in_a_file(tmp_path: Path, read: Read) -> None:
    """As container secrets are, with a trailing newline."""
    (tmp_path / "database").write_text("postgres://me:pw@db/x\n")
    (tmp_path / "broker").write_text("redis://:pw@cache:6379/0\n")

    settings = read(
        DATABASE_URL=None,
        BROKER_URL="",
        DATABASE_URL_FILE=str(tmp_path / "database"),
        BROKER_URL_FILE=str(tmp_path / "broker"),
    )

    assert settings.database_url == "postgresql+psycopg://me:pw@db/x"
    assert settings.broker_url == "redis://:pw@cache:6379/0"


def test_an_empty_file_name_is_ignored(read: Read) -> None:
    """An empty variable counts as not set."""
    assert read(DATABASE_URL_FILE="").database_url == "postgresql+psycopg://me@localhost/crawlyard"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "DATABASE_URL_FILE names a file that cannot be read: No such file or directory"),
        (b" \n", "DATABASE_URL_FILE names an empty file"),
        (b"\xff\xfe", "DATABASE_URL_FILE names a file that is not text"),
        (f"mysql://me:{SECRET}@h/x".encode(), "DATABASE_URL must begin with postgres://"),
    ],
)
def test_an_unreadable_file_is_reported_by_its_variable_in_one_line(
    content: bytes | None, expected: str, tmp_path: Path, complaint: Callable[..., str]
) -> None:
    """The line shows neither content nor path: somebody may have set the path to the URL itself."""
    path = tmp_path / SECRET
    if content is not None:
        path.write_bytes(content)

    assert complaint(DATABASE_URL=None, DATABASE_URL_FILE=str(path)).startswith(expected)


def test_a_folder_is_not_accepted_as_a_file(tmp_path: Path, complaint: Callable[..., str]) -> None:
    """Docker creates a folder for a secret whose file is missing."""
    assert complaint(DATABASE_URL=None, DATABASE_URL_FILE=str(tmp_path)) == (
        "DATABASE_URL_FILE names a file that cannot be read: Is a directory"
    )


def test_a_url_may_be_given_only_once(tmp_path: Path, complaint: Callable[..., str]) -> None:
    """With two values, it would be unclear which one applies."""
    (tmp_path / "broker").write_text(f"redis://:{SECRET}@cache")

    assert complaint(BROKER_URL_FILE=str(tmp_path / "broker")) == (
        "BROKER_URL and BROKER_URL_FILE are both set; keep one of them"
    )


def _providers(url: str = "https://gitlab.example.org", **fields: object) -> str:
    return json.dumps({url: {"client_id": "us", "client_secret": SECRET} | fields})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f'{{"https://gitlab.example.org": {SECRET}', "CRAWLYARD_OAUTH_PROVIDERS must be JSON: "),
        (f'["{SECRET}"]', "CRAWLYARD_OAUTH_PROVIDERS must be JSON: "),
        (f'{{"https://gitlab.example.org": "{SECRET}"}}', "CRAWLYARD_OAUTH_PROVIDERS must be JSON: "),
        *(
            (_providers(url), "CRAWLYARD_OAUTH_PROVIDERS must name each GitLab by scheme and host")
            for url in (
                f"https://:{SECRET}@gitlab.example.org",
                f"https://gitlab.example.org/../{SECRET}",
                f"https://gitlab.example.org?{SECRET}",
                f"https://gitlab.example.org/#{SECRET}",
            )
        ),
        (
            _providers("gitlab.example.org"),
            "CRAWLYARD_OAUTH_PROVIDERS must name each GitLab by scheme and host",
        ),
        (
            '{"https://gitlab.example.org": {"client_id": "us"}}',
            "CRAWLYARD_OAUTH_PROVIDERS: https://gitlab.example.org client_secret: field required",
        ),
        (
            _providers(scope=SECRET),
            "CRAWLYARD_OAUTH_PROVIDERS: https://gitlab.example.org scope: extra inputs are not permitted",
        ),
        (
            _providers(client_secret=[SECRET]),
            "CRAWLYARD_OAUTH_PROVIDERS: https://gitlab.example.org client_secret: input should be a valid string",
        ),
    ],
)
def test_wrong_providers_are_reported_in_one_line_with_the_place(
    given: str, expected: str, complaint: Callable[..., str]
) -> None:
    """The line names the GitLab and the field, but no value."""
    assert complaint(CRAWLYARD_OAUTH_PROVIDERS=given).startswith(expected)


def test_providers_are_matched_whatever_the_case_of_their_host(read: Read) -> None:
    """The key is scheme and host in lower case, without a trailing slash."""
    providers = read(CRAWLYARD_OAUTH_PROVIDERS=_providers("https://GitLab.Example.org/")).oauth_providers

    assert list(providers) == ["https://gitlab.example.org"]
    assert providers["https://gitlab.example.org"].client_secret.get_secret_value() == SECRET
    assert SECRET not in repr(providers)


def test_providers_may_stand_in_a_file(tmp_path: Path, read: Read, complaint: Callable[..., str]) -> None:
    """They contain secrets. File and variable may not both be set."""
    (tmp_path / "providers").write_text(_providers() + "\n")
    name = {"CRAWLYARD_OAUTH_PROVIDERS_FILE": str(tmp_path / "providers")}

    assert list(read(**name).oauth_providers) == ["https://gitlab.example.org"]
    assert complaint(**name, CRAWLYARD_OAUTH_PROVIDERS=_providers()) == (
        "CRAWLYARD_OAUTH_PROVIDERS and CRAWLYARD_OAUTH_PROVIDERS_FILE are both set; keep one of them"
    )


def test_two_urls_name_one_schema(complaint: Callable[..., str]) -> None:
    """Subscribers would otherwise read another installation's events."""
    urls = {
        "DATABASE_URL": "postgres://db/x?schema=y",
        "CRAWLYARD_DIRECT_DATABASE_URL": "postgres://db/x?schema=z",
    }

    assert complaint(**urls) == "CRAWLYARD_DIRECT_DATABASE_URL names another schema than DATABASE_URL"
    assert complaint(DATABASE_URL="postgres://db/x?schema=y&schema=z") == "DATABASE_URL must name one schema"


def test_sessions_use_the_direct_url_when_it_is_set(tmp_path: Path, read: Read) -> None:
    """Without a direct URL, sessions use DATABASE_URL in psycopg's form."""
    assert read().session_url == "postgresql://me@localhost/crawlyard"
    assert read(CRAWLYARD_DIRECT_DATABASE_URL="").session_url == "postgresql://me@localhost/crawlyard"
    urls = {
        "DATABASE_URL": "postgres://db/x?schema=y",
        "CRAWLYARD_DIRECT_DATABASE_URL": "postgres://db/z?schema=y",
    }
    assert read(**urls).session_url == "postgresql://db/z"
    (tmp_path / "direct").write_text("postgres://me:pw@db/x\n")
    settings = read(CRAWLYARD_DIRECT_DATABASE_URL_FILE=str(tmp_path / "direct"))
    assert (settings.session_url, settings.psycopg_url) == (
        "postgresql://me:pw@db/x",
        "postgresql://me@localhost/crawlyard",
    )


def test_a_wrong_direct_url_is_reported_by_name(complaint: Callable[..., str]) -> None:
    """The line does not show its value."""
    message = complaint(CRAWLYARD_DIRECT_DATABASE_URL=f"mysql://me:{SECRET}@h/x")
    assert message.startswith("CRAWLYARD_DIRECT_DATABASE_URL must begin with postgres://")
    assert SECRET not in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:p%2Cq@h1:5432,[::1]:5433/x?target_session_attrs=read-write",
        "postgresql://me:p%2Cq@/x?host=h1:5432&host=[::1]:5433&target_session_attrs=read-write",
        "postgresql://me:p%2Cq@/x?host=h1,::1&port=5432,5433&target_session_attrs=read-write",
    ],
)
def test_several_hosts_are_read_by_both_clients(url: str, read: Read) -> None:
    """In libpq's form and in SQLAlchemy's: of these each was refused, or unknown to the other one."""
    ours = read(DATABASE_URL=url)
    wanted = {"host": "h1,::1", "port": "5432,5433", "target_session_attrs": "read-write"}
    _, options = create_engine(ours.engine_url).dialect.create_connect_args(make_url(ours.engine_url))
    assert {name: options[name] for name in wanted} == wanted
    assert (options["password"], options["dbname"]) == ("p,q", "x")
    told = conninfo_to_dict(ours.psycopg_url)
    assert {name: told[name] for name in wanted} == wanted
    assert (told["password"], told["dbname"]) == ("p,q", "x")


def test_one_host_with_a_port_stays_as_it_is(read: Read) -> None:
    """Also where there is no port in a list."""
    assert read(DATABASE_URL="postgresql://h:5432/x").psycopg_url == "postgresql://h:5432/x"
    assert conninfo_to_dict(read(DATABASE_URL="postgresql://a,b:5433/x").psycopg_url)["port"] == "5432,5433"
