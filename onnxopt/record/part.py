"""The base class of all parts of the run record."""

from math import isfinite
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _not_finite_is_null(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_not_finite_is_null)]
"""A measured number; null where it has no finite value, which JSON cannot hold."""


class RecordPart(BaseModel):
    """Base of all parts: nothing unknown is accepted, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
