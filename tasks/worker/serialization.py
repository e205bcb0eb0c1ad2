"""
Plain JSON for messages: an object stays an object, whatever its keys.

kombu's own JSON turns `{"__type__": "datetime", "__value__": …}` anywhere in a payload into a datetime, and fails the
whole message for an unknown `__type__`. A text from a crawler must not do that.
"""

import json
from typing import Any

from kombu.serialization import registry

from persistence.db.json_bounds import parse_json


def loads(text: str | bytes) -> Any:
    """
    Read JSON. The last of duplicate keys wins. NaN is accepted; the contract refuses it, item by item.

    Raises ValueError for invalid JSON, and for JSON that is beyond the bounds of persistence/db/json_bounds.py.
    """
    return parse_json(text.encode(errors="surrogatepass") if isinstance(text, str) else text)


def dumps(value: Any) -> str:
    """Write JSON. Raises TypeError for types that JSON lacks; times are sent as ISO 8601 text."""
    return json.dumps(value)


def register() -> None:
    """Replace kombu's JSON. Call it once, before the first message; tasks/app.py does."""
    registry.register("json", dumps, loads, content_type="application/json", content_encoding="utf-8")
