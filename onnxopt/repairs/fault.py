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
    """The purpose of a repair: a repair that does not serve it is undone."""

    SPEED = "speed"
    SIZE = "size"


@dataclass(frozen=True)
class Faults:
    """The places of one kind of fault.

    Attributes:
        sites: names of values by which the repair finds the places in a copy of the model.
        where: the user's names of nodes or weights, one per site.
        left: places with the fault that cannot be mended, with the reason.
        exact: whether the repair, exact in general, keeps outputs equal in this model too.
    """

    sites: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    left: tuple[Skip, ...] = ()
    exact: bool = True


@dataclass(frozen=True)
class Repair(ABC):
    """Mends one kind of fault.

    Attributes:
        code: code of the finding that `check` shows, a key of `onnxopt.graph.lint.RULES`.
        does: the change, in words for a table.
        purpose: the purpose of the repair.
        exact: whether outputs stay equal, bit for bit, while ONNX Runtime optimizes nothing.
        reordering: largest change of an output by an exact repair that adds floats in another order.
        for_target: whether the target's instruction set requires it, so that it is kept if no time can be measured.
    """

    code: ClassVar[str]
    does: ClassVar[str]
    purpose: ClassVar[Purpose] = Purpose.SPEED
    exact: ClassVar[bool] = True
    reordering: ClassVar[float] = 0.0
    for_target: ClassVar[bool] = False

    @property
    def fault(self) -> str:
        """The fault, in words."""
        return RULES[self.code][1]

    @abstractmethod
    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the places of the fault in `model` (not modified).

        Raises:
            ModelError: ONX304 ONNX Runtime cannot load the model.
        """

    @abstractmethod
    def apply(self, model: ir.Model, found: Faults) -> None:
        """Mend all sites in place; `found` comes from a model with the same names."""

    def mended(self, model: ir.Model, found: Faults) -> ir.Model:
        """Return a copy of `model` with all sites mended, without values that have no readers any more."""
        copy = model.clone()
        unread_before = unread(copy)
        self.apply(copy, found)
        drop_unread(copy, unread_before)
        return copy
