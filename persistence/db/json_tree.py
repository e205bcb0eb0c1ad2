"""Walks through JSON that others wrote, without recursion: such a value may be nested deeper than Python can call."""

from collections.abc import Iterator
from typing import Any

_CONTAINERS = (dict, list)


def walk(value: Any) -> Iterator[tuple[Any, int]]:
    """Every value in *value*, itself included, with its depth (0 for *value*). Keys are not values."""
    stack = [(value, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        if isinstance(node, _CONTAINERS):
            children = node.values() if isinstance(node, dict) else node
            stack.extend((child, depth + 1) for child in children)


def is_nested_deeper(value: Any, levels: int) -> bool:
    """True if *value* has more than *levels* objects or arrays inside each other, itself included."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(levels):
        if not level:
            return False
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, _CONTAINERS)
        ]
    return bool(level)
