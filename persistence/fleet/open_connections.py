"""
How many connections are open, for the bound on them.

To count 20,000 makes a registration take more than twice as long. While the last sweep found fewer than half of what
may be open, nothing is counted: more than the other half hardly register between two sweeps.
"""

from sqlalchemy.orm import Session

from persistence.schema.sql import sql
from persistence.settings import settings

_OPEN = sql("""
    SELECT CASE WHEN 2 * (SELECT CAST(value AS bigint) FROM statistic WHERE name = 'open_connections') < :most
                THEN 0
                ELSE (SELECT count(*) FROM (SELECT FROM socket_connection WHERE is_active LIMIT :most) open) END
""")


def room_for_connections(session: Session) -> int:
    """How many more connections may be opened. Units that commit at the same moment may open a few more."""
    most = settings().max_connections
    return max(most - int(session.scalars(_OPEN, {"most": most}).one()), 0)
