"""
JSON as everybody else means it: an object in a message is an object, whatever its keys.

kombu's own JSON turns `{"__type__": "datetime", "__value__": …}` anywhere in a payload into a datetime,
and an unknown `__type__` into an error that costs the whole message. A crawler's text must not do that.
"""

import json
from typing import Any

from kombu.serialization import registry


def loads(text: str | bytes) -> Any:
    """
    Read JSON. The last of duplicate keys wins, and NaN passes: the contract refuses it, item by item.

    Raises ValueError for what is no JSON, RecursionError for what is nested some hundred levels deep.
    """
    return json.loads(text)


def dumps(value: Any) -> str:
    """Write JSON. Raises TypeError for what JSON lacks: times are sent as ISO 8601 text."""
    return json.dumps(value)


def register() -> None:
    """Put this JSON in kombu's place. Call it once, before the first message: tasks/app.py does."""
    registry.register("json", dumps, loads, content_type="application/json", content_encoding="utf-8")
