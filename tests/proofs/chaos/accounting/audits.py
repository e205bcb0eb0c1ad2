"""The audits of a run: its order log against the database, and the invariants of a database at rest."""

from sqlalchemy import NullPool, create_engine

from console.demo.audit import audit_demo
from console.embedded.servers import Services
from console.simulator.order_log import OrderLog
from persistence.settings import PREFIX, Settings
from proofs.chaos.scale import SETTINGS

_CHECKED_BY_VERDICT = ("nothing_rejected",)
"""The audit of the demo allows no rejected message; the verdict knows which are allowed."""


def faults_of(services: Services, order_log: OrderLog) -> list[str]:
    """Return the findings, a line each."""
    reader = create_engine(
        services.database_url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool
    )
    with reader.connect() as connection, connection.begin():
        faults = audit_demo(
            connection, order_log, worker_settings=_worker_settings(services), at_rest=True
        ).faults
    return [str(fault) for fault in faults if fault.name not in _CHECKED_BY_VERDICT]


def _worker_settings(services: Services) -> Settings:
    """The settings of the workers, without this process's environment."""
    ours = {name.removeprefix(PREFIX).lower(): value for name, value in SETTINGS.items()}
    return Settings.model_validate(services.environment() | ours)
