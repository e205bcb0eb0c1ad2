"""The doctor's examination of the web app's tables: where they are found, and what their columns are like."""

from sqlalchemy import Connection, text

from console.checks.doctor.finding import Finding, judged
from console.output.screen import counted
from persistence.migrations.placement import Placement, read_placement
from persistence.migrations.web_app.tables import TIMESTAMPS, WebAppTables, examine

_DEFAULT_ZONE = text("SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")

_UTC = frozenset(
    {"utc", "etc/utc", "gmt", "etc/gmt", "uct", "zulu", "etc/zulu", "etc/uct", "universal", "etc/universal"}
)
"""The names of the zone in which a default of now() writes UTC into a column without zone."""


def examine_web_app(connection: Connection) -> list[Finding]:
    """Examine the placement and the types of the tables that we share."""
    found = examine(connection)
    return [
        _placement(read_placement(connection)),
        _types(found),
        *_zones(found, connection.execute(_DEFAULT_ZONE).scalar_one()),
    ]


def _placement(placement: Placement) -> Finding:
    where = f"found in schema {', '.join(placement.ours)}, the web app's in {', '.join(placement.web_apps)}"
    hidden = placement.twofold
    return judged(
        "search_path",
        f"{', '.join(hidden)} found in several schemas; {where}" if hidden else where,
        good=not hidden,
        remedy="Set search_path for the role in DATABASE_URL so that each table is found once.",
        otherwise="fault" if len(placement.ours) > 1 else "warning",
    )


def _types(found: WebAppTables) -> Finding:
    return judged(
        "web app's tables",
        found.complaint or "types, keys and defaults are as Crawlyard needs them",
        good=not found.faults,
        remedy=f"Have their owner run: {found.repair}"
        if found.repair
        else "Have their owner add what is missing.",
    )


def _zones(found: WebAppTables, default_zone: str) -> list[Finding]:
    if not found.times_without_zone:
        return []
    columns = counted(found.times_without_zone, "timestamp column")
    return [
        judged(
            "timestamps",
            f"{columns} without time zone read and written in UTC; TimeZone of other sessions is {default_zone}",
            good=default_zone.lower() in _UTC,
            remedy=f"{TIMESTAMPS}=utc says that all is UTC, but now() writes local time there in a session of another "
            "zone: ALTER DATABASE … SET TimeZone TO 'UTC', or make the columns timestamptz.",
            otherwise="warning",
        )
    ]
