"""One kind of fault in a quantized file: found by reading the graph, mended by editing it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import onnx_ir as ir

from onnxopt.graph.lint import RULES
from onnxopt.pipeline import Skip
from onnxopt.repairs.unused import drop_unread, unread
from onnxopt.target import Target


class Purpose(Enum):
    """What mending is for: it is undone where that is not reached."""

    SPEED = "speed"
    SIZE = "size"


@dataclass(frozen=True)
class Faults:
    """Where one kind of fault is.

    Attributes:
        sites: names of values by which the repair finds the places again in a copy of the model.
        where: the user's names of nodes or weights, one per site.
        left: places with the fault that cannot be mended, with the reason.
        exact: whether mending keeps outputs equal in this model, where the repair is exact in general.
    """

    sites: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    left: tuple[Skip, ...] = ()
    exact: bool = True


@dataclass(frozen=True)
class Repair(ABC):
    """Mends one kind of fault.

    Attributes:
        code: of the finding that `check` shows, a key of `onnxopt.graph.lint.RULES`.
        does: what it does, in words for a table.
        purpose: what it is for.
        exact: whether outputs stay equal, bit for bit, while ONNX Runtime optimizes nothing.
        reordering: largest change of an output that an exact repair makes by adding up floats in another order.
        for_target: whether it follows from the target's instruction set, and so is kept where no time can be measured.
    """

    code: ClassVar[str]
    does: ClassVar[str]
    purpose: ClassVar[Purpose] = Purpose.SPEED
    exact: ClassVar[bool] = True
    reordering: ClassVar[float] = 0.0
    for_target: ClassVar[bool] = False

    @property
    def fault(self) -> str:
        """What is wrong, in words."""
        return RULES[self.code][1]

    @abstractmethod
    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return where the fault is; the model stays as it is.

        Raises:
            ModelError: ONX304 ONNX Runtime cannot load the model.
        """

    @abstractmethod
    def apply(self, model: ir.Model, found: Faults) -> None:
        """Mend all sites in place; `found` is of a model with the same names."""

    def mended(self, model: ir.Model, found: Faults) -> ir.Model:
        """Return a copy of `model` with all sites mended, without what nothing reads any more."""
        copy = model.clone()
        unread_before = unread(copy)
        self.apply(copy, found)
        drop_unread(copy, unread_before)
        return copy
