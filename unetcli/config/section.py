"""What a group of settings is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Strict


class Section(BaseModel):
    """A group of settings; frozen, closed to names it does not know, and no value is taken for one of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Axes = Annotated[tuple[int, ...], Strict(strict=False)]
"""One number an axis, in the order of the arrays: Y X, or Z Y X."""
