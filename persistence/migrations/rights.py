"""What our role may do with the tables, and whether row level security hides rows from it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from persistence.db.engine import engine
from persistence.db.sqlstate import translate_errors
from persistence.exceptions import UnsuitableDatabaseError
from persistence.migrations.scope import VERSION_TABLE
from persistence.schema import Base

_ALL: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_ONE_ROW: Final = ("SELECT", "UPDATE")

_REQUIRED: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(sorted(Base.metadata.tables), _ALL),
    # A migration has made their only row.
    **dict.fromkeys(("adoption", "event_edge", "liveness_state"), _ONE_ROW),
    # The web app's: discoveries move areas, and the clean-up deletes old jobs.
    "user": ("SELECT", "UPDATE"),  # FOR KEY SHARE requires UPDATE
    "account": ("SELECT", "UPDATE"),
    "job_area": ("SELECT", "INSERT", "UPDATE"),
    VERSION_TABLE: ("SELECT",),
}
"""What a worker does, by table."""

ORDERS: Final = "crawler_order"
"""The view in which gateways read orders."""

_SEQUENCES: Final = ("assign_bell",)

_MISSING = text("""
    -- A privilege on some columns counts: which ones we need is not checked. Objects that do not exist are no matter.
    SELECT privilege, name
      FROM unnest(CAST(:names AS text[]), CAST(:privileges AS text[])) WITH ORDINALITY
           AS wanted(name, privilege, place),
           to_regclass(quote_ident(name)) AS found
     WHERE CASE WHEN found IS NULL THEN false
                WHEN privilege = 'USAGE' THEN NOT has_sequence_privilege(found, privilege)
                WHEN privilege = 'DELETE' THEN NOT has_table_privilege(found, privilege)
                ELSE NOT has_any_column_privilege(found, privilege) END
     ORDER BY place
""")

_CLOSED_SCHEMAS = text("""
    -- current_schemas() leaves these out, and then our tables seem not to exist.
    SELECT nspname::text FROM pg_namespace
     WHERE nspname IN (SELECT btrim(part, ' "')
                         FROM unnest(string_to_array(current_setting('search_path'), ',')) AS part)
       AND NOT has_schema_privilege(oid, 'USAGE')
     ORDER BY nspname
""")

_HIDDEN = text("""
    -- A policy that lets our role do all with all rows hides none, unless a restrictive one stands beside it.
    SELECT name FROM unnest(CAST(:names AS text[])) AS name, to_regclass(quote_ident(name)) AS found
     WHERE found IS NOT NULL AND row_security_active(found)
       AND (EXISTS (SELECT FROM pg_policy WHERE polrelid = found AND NOT polpermissive)
            OR NOT EXISTS (
                SELECT FROM pg_policy
                 WHERE polrelid = found AND polcmd = '*' AND pg_get_expr(polqual, polrelid) = 'true'
                   AND coalesce(pg_get_expr(polwithcheck, polrelid), 'true') = 'true'
                   AND EXISTS (SELECT FROM unnest(polroles) AS role
                                WHERE CASE WHEN role = 0 THEN true ELSE pg_has_role(role, 'USAGE') END)))
     ORDER BY name
""")


_ORDERS = text("""
    -- A view reads its tables with its owner's rights.
    SELECT has_table_privilege(view.oid, 'SELECT') AS is_readable, quote_ident(pg_get_userbyid(relowner)) AS owner,
           ARRAY(SELECT DISTINCT used.refobjid::regclass::text
                   FROM pg_rewrite rule
                   JOIN pg_depend used ON used.objid = rule.oid AND used.classid = 'pg_rewrite'::regclass
                                      AND used.refclassid = 'pg_class'::regclass AND used.refobjid <> rule.ev_class
                  WHERE rule.ev_class = view.oid AND NOT has_any_column_privilege(relowner, used.refobjid, 'SELECT')
                  ORDER BY 1) AS closed
      FROM pg_class view WHERE view.oid = to_regclass(:view)
""")


@dataclass(frozen=True)
class Rights:
    """What our role lacks; all empty if it may do what Crawlyard does."""

    role: str
    missing: str
    """Such as `DELETE on area, job; USAGE on assign_bell`."""
    grant: str
    """The statements that grant it."""
    hidden: list[str]
    """The tables of which row level security may hide rows."""


def read_rights(connection: Connection) -> Rights:
    """Look up what our role may do with each table and sequence that exists, as statements find them."""
    wanted = [(name, privilege) for name, privileges in _REQUIRED.items() for privilege in privileges]
    wanted += [(name, "USAGE") for name in _SEQUENCES]
    values = {"names": [name for name, _ in wanted], "privileges": [privilege for _, privilege in wanted]}
    role = str(connection.scalar(text("SELECT quote_ident(current_user)")))
    closed = list(connection.scalars(_CLOSED_SCHEMAS))
    groups = _grouped(connection.execute(_MISSING, values).all())
    missing = [f"USAGE on schema {name}" for name in closed]
    missing += [f"{', '.join(privileges)} on {', '.join(names)}" for privileges, names in groups.items()]
    grants = [f"GRANT USAGE ON SCHEMA {name} TO {role}" for name in closed]
    grants += [_grant(privileges, names, role) for privileges, names in groups.items()]
    hidden = list(connection.scalars(_HIDDEN, {"names": list(_REQUIRED)}))
    return Rights(role, "; ".join(missing), "; ".join(grants), hidden)


def why_no_orders(connection: Connection) -> tuple[str, str]:
    """
    Return why our role cannot read orders, and the remedy; nothing if it can.

    Gateways and audits read them; a worker does not.
    """
    found = connection.execute(_ORDERS, {"view": ORDERS}).one_or_none()
    if found is None:
        return f"there is no view {ORDERS}", "Run `crawlyard migrate`"
    if found.closed:
        tables = ", ".join(found.closed)
        return (
            f"SELECT on {tables} by {found.owner}, the owner of {ORDERS}",
            f"Have their owner run: GRANT SELECT ON {tables} TO {found.owner}",
        )
    if not found.is_readable:
        role = connection.scalar(text("SELECT quote_ident(current_user)"))
        return f"SELECT on {ORDERS}", f"Have its owner run: GRANT SELECT ON {ORDERS} TO {role}"
    return "", ""


def require_rights(connection: Connection) -> None:
    """Raise UnsuitableDatabaseError, in one line that names all, if our role lacks rights or does not see all rows."""
    if why := _complaint(read_rights(connection)):
        raise UnsuitableDatabaseError(why)


def lacking() -> str:
    """Return in one line what our role lacks now; nothing if it lacks nothing. Raises a TransientError."""
    with translate_errors(), engine().connect() as connection:
        return _complaint(read_rights(connection))


def _complaint(rights: Rights) -> str:
    if rights.missing:
        return f"The role {rights.role} lacks {rights.missing}. Have their owner run: {rights.grant}"
    if rights.hidden:
        return (
            f"Row level security hides rows of {', '.join(rights.hidden)} from the role {rights.role}, and Crawlyard "
            f"must see all. {unhide(rights)}"
        )
    return ""


def unhide(rights: Rights) -> str:
    """Say how rows become visible to our role."""
    if not rights.hidden:
        return ""
    role, table = rights.role, rights.hidden[0]
    return (
        f"Run ALTER ROLE {role} BYPASSRLS, or for each table, such as {table}: CREATE POLICY crawlyard ON {table} "
        f"FOR ALL TO {role} USING (true), and drop restrictive policies."
    )


def _grouped(rows: Sequence[tuple[str, str]]) -> dict[tuple[str, ...], list[str]]:
    """Group the names that lack the same privileges."""
    of_name: dict[str, list[str]] = defaultdict(list)
    for privilege, name in rows:
        of_name[name].append(privilege)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, privileges in of_name.items():
        groups[tuple(privileges)].append(name)
    return groups


def _grant(privileges: tuple[str, ...], names: list[str], role: str) -> str:
    kind = "SEQUENCE " if privileges == ("USAGE",) else ""
    quoted = ", ".join('"user"' if name == "user" else name for name in names)
    return f"GRANT {', '.join(privileges)} ON {kind}{quoted} TO {role}"
