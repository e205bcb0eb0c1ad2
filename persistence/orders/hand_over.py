"""What a gateway hands over to crawlers: orders with the tokens of their accounts."""

from dataclasses import dataclass, field
from typing import Any

from persistence.schema.ids import ConnectionId


@dataclass(frozen=True, slots=True)
class Order:
    """An order, as the view `crawler_order` has it, and the token that it is done with."""

    crawler_job_id: str
    connection_id: ConnectionId
    account_id: str
    command: str
    entity_type: str
    entity_id: str
    gitlab_url: str | None
    resume_state: dict[str, Any] | None
    discoveries: tuple[str, ...]
    """The timestamps of the discoveries that were applied, as they were sent."""
    access_token: str | None = field(repr=False)
