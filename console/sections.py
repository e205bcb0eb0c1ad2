"""A group of commands whose help lists them under headings."""

from collections.abc import Callable
from typing import Any

import click


class Sections(click.Group):
    """A click group that keeps its sections, and the commands in them, in the order in which they were added."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections: dict[str, list[str]] = {}

    def under(self, heading: str) -> Callable[[click.Command], click.Command]:
        """Put a command under a heading."""

        def add(command: click.Command) -> click.Command:
            self.add_command(command)
            self._sections.setdefault(heading, []).append(command.name or "")
            return command

        return add

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands, section by section."""
        return [name for names in self._sections.values() for name in names]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of commands per section."""
        width = max(len(name) for name in self.commands)
        for heading, names in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(name.ljust(width), self.commands[name].get_short_help_str(100)) for name in names]
                )
