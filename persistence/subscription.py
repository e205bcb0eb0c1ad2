"""The former home of `persistence.events.subscription`, which programs of others may import; kept for them."""

from persistence.events.subscription import Subscription

__all__ = ["Subscription"]
