"""The transcript of docs/wire-protocol.md: its lines, and what of it is the same in every run."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "docs" / "wire-protocol.md"

CRAWLER, GATEWAY, REMARK = ">", "<", "--"


@dataclass(frozen=True)
class Line:
    """A frame of the crawler or of the gateway, or what happens meanwhile."""

    side: str
    text: str

    @property
    def frame(self) -> dict[str, Any]:
        """The frame; not for remarks."""
        frame: dict[str, Any] = json.loads(self.text)
        return frame


def transcript() -> list[Line]:
    """Return the lines of the page's transcript; a line that begins with blanks continues the one before."""
    (block,) = re.findall(
        r"^```transcript\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    whole = re.sub(r"\n\s+", " ", block).splitlines()
    return [Line(*line.split(" ", 1)) for line in whole]
