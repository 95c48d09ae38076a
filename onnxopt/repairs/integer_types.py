"""Integers of a type without fast kernels on the target."""

from dataclasses import replace
from typing import ClassVar

import onnx_ir as ir

from onnxopt.pipeline import Skip
from onnxopt.repairs.fault import Faults, Repair
from onnxopt.repairs.integer_values import Integers, integers_of
from onnxopt.repairs.shifted import shift
from onnxopt.target import Target

_SEVEN_BITS = 64
"""Largest distance from the zero point with which the sum of two 8-bit products fits into 16 bits."""
_ROUNDED = ("QLinearMul", "QLinearAveragePool")
"""Operators whose kernels for int8 and uint8 may differ by one step, if a result lies between two integers."""


class ActivationType(Repair):
    """Convert activations to the type of the target's kernels: uint8 on x86, int8 on ARM; weights become int8.

        QuantizeLinear(zero point z, int8)   ->   QuantizeLinear(zero point z + 128, uint8)

    ONNX Runtime has no int8 x int8 kernels on x86: it computes such layers in float between conversions. On x86 without
    VNNI, uint8 x int8 saturates in 16 bits with weights of more than 7 bits, so those files are not changed.
    """

    code: ClassVar[str] = "CHK401"
    does: ClassVar[str] = "move activations by 128 to the processor's type"
    for_target: ClassVar[bool] = True

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the activations of the other type, and all weights that are not int8."""
        all_integers = integers_of(model)
        wanted = ir.DataType[target.activation_type.upper()]
        wrong = [i for i in all_integers if not i.weight and i.dtype is not wanted]
        if not any(not i.constant and not i.obstacle for i in wrong):
            return Faults(left=_left([i for i in wrong if not i.constant]))
        if (why := saturates(all_integers, target)) is not None:
            return Faults(left=(Skip("activations", why),))
        weights = [i for i in all_integers if i.weight and i.dtype is not ir.DataType.INT8]
        rounded = any(node.op_type in _ROUNDED for integers in wrong for node, _ in integers.ports)
        return replace(found_of([*wrong, *weights]), exact=not rounded)

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Shift them."""
        shift_sites(model, found)


class WeightType(Repair):
    """Store uint8 weights as int8: the fast kernels multiply uint8 activations with int8 weights.

        DequantizeLinear(W uint8, zero point z)   ->   DequantizeLinear(W - 128 int8, zero point z - 128)

    The represented numbers do not change.
    """

    code: ClassVar[str] = "CHK402"
    does: ClassVar[str] = "move weights by 128 to int8"
    for_target: ClassVar[bool] = True

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the uint8 weights of products."""
        all_integers = integers_of(model)
        weights = [i for i in all_integers if i.weight and i.dtype is ir.DataType.UINT8]
        if weights and (why := saturates(all_integers, target)) is not None:
            return Faults(left=(Skip("weights", why),))
        return found_of(weights)

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Shift them."""
        shift_sites(model, found)


def saturates(all_integers: list[Integers], target: Target) -> str | None:
    """Return the reason why uint8 x int8 would give wrong sums on `target`; None if sums are right."""
    if target.activation_type != "uint8" or not target.reduce_range:
        return None
    large = next((i for i in all_integers if i.weight and i.magnitude() > _SEVEN_BITS), None)
    if large is None:
        return None
    return f"weights of 8 bits, as in {large.where}, saturate on {target.name} when activations are uint8"


def found_of(integers: list[Integers]) -> Faults:
    """Return integers that can change their type as sites, and the others with the reason."""
    good = [i for i in integers if not i.obstacle]
    return Faults(tuple(i.name for i in good), tuple(i.where for i in good), _left(integers))


def shift_sites(model: ir.Model, found: Faults) -> None:
    """Shift the integers that `found` names, in place."""
    sites = set(found.sites)
    shift(model, [i for i in integers_of(model) if i.name in sites])


def _left(integers: list[Integers]) -> tuple[Skip, ...]:
    return tuple(Skip(i.where, i.obstacle) for i in integers if i.obstacle)
