"""`crawlyard contract`: prints the JSON Schemas of the tasks' payloads, and of what crawlers and gateways send."""

import json
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter

from persistence.version import version
from tasks.contract.frames import Frame
from tasks.contract.payloads import CONTRACT, Payload
from tasks.contract.protocol_1 import CRAWLER_FRAME, GATEWAY_FRAME
from tasks.contract.types import BATCH_LIMIT

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FRAMES: dict[str, tuple[str, TypeAdapter[Any]]] = {
    "frame": ("Frame", TypeAdapter(Frame)),
    "protocol_1.crawler": ("A frame of a crawler", CRAWLER_FRAME),
    "protocol_1.gateway": ("A frame of a gateway", GATEWAY_FRAME),
}
"""The schemas that are not a task's, each with its title. `frame` is a frame as crawler.frames contains it."""


def show_contract(name: str | None, out: Path | None) -> None:
    """Print one schema, or all of them as one object by name; with *out*, write one file per schema instead."""
    names = [name] if name else list_names()
    if out is None:
        click.echo(_text(schema(name) if name else {"version": version(), "schemas": _all(names)}))
        return
    out.mkdir(parents=True, exist_ok=True)
    for each, found in _all(names).items():
        (out / f"{each}.json").write_text(_text(found) + "\n")
    click.echo(f"Wrote {len(names)} schemas to {out}.")


def list_names() -> list[str]:
    """List the names of all schemas."""
    return [*CONTRACT, *FRAMES]


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a task's keyword arguments, or of a frame. Raises a usage error for another name."""
    if name not in list_names():
        raise click.BadParameter(
            f"there is no task {name!r}; there are {', '.join(list_names())}", param_hint="TASK"
        )
    found = _of_frame(name) if name in FRAMES else _of_payload(CONTRACT[name])
    return {"$schema": DIALECT, "$id": f"urn:crawlyard:{version()}:{name}", **found}


def _all(names: list[str]) -> dict[str, dict[str, Any]]:
    return {name: schema(name) for name in names}


def _of_frame(name: str) -> dict[str, Any]:
    title, frame = FRAMES[name]
    return {"title": title, **frame.json_schema()}


def _of_payload(payload: type[Payload]) -> dict[str, Any]:
    found = payload.model_json_schema()
    for part in found.get("properties", {}).values():
        if part.get("type") == "array":
            # A validator function bounds batches; pydantic cannot derive a schema from that.
            part.setdefault("maxItems", BATCH_LIMIT)
    return found


def _text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
