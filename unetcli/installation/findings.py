"""One thing that was looked at: what was found, whether it will do, and what to do where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "problem"]
"""Works; works, but not as well as it could; what is needed does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        name: What it is; stable, so that a program can look for it.
        status: Whether it will do.
        found: What there is, in words.
        next_step: What to do, as a command or a sentence; may be empty.
        facts: The same for a program, as JSON can hold it.
    """

    name: str
    status: Status
    found: str
    next_step: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def as_json(self) -> dict[str, Any]:
        """The finding without its name."""
        return {
            "status": self.status,
            "found": self.found,
            "next_step": self.next_step or None,
            "facts": dict(self.facts),
        }


def in_gigabytes(number: float) -> str:
    """Bytes as `16.4 GB`."""
    return f"{number / 1e9:.1f} GB"
