"""The base class of all parts of the run record."""

from math import isfinite
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict


def _not_finite_is_null(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_not_finite_is_null)]
"""A measured number; null if it is not finite, because JSON holds only finite numbers."""


def _some(size: int) -> int:
    if size < 1:
        raise ValueError(f"a model of {size} bytes")
    return size


SizeBytes = Annotated[int, AfterValidator(_some)]
"""The size of a model, which reports divide by."""


class RecordPart(BaseModel):
    """Base of all parts: immutable, no unknown fields; made from JSON or from an object with equal attributes."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)
