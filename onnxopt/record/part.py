"""The base class of all parts of the run record."""

from math import isfinite
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _not_finite_is_null(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_not_finite_is_null)]
"""A measured number; null if it is not finite, because JSON holds only finite numbers."""


class RecordPart(BaseModel):
    """Base of all parts: immutable, no unknown fields; made from JSON or from an object with equal attributes."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)
