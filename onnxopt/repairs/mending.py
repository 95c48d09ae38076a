"""Repairs, applied in turn: each is proved and measured beside the file before it, and undone if it does not help."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from onnxopt.document import units
from onnxopt.errors import OnnxoptError
from onnxopt.graph.check import check_structure
from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Interval
from onnxopt.model_file import check, size_bytes
from onnxopt.repairs.fault import Faults, Purpose, Repair
from onnxopt.repairs.order import REPAIRS
from onnxopt.repairs.witness import Outputs, Witness, change, likely_change
from onnxopt.target import Target

Clock = Callable[[ir.Model, ir.Model], Latency]
"""Called with a model before and after; returns the time and the speed-up."""

_MOST_REORDERED = 1e-4
"""Largest change that the order of float operations explains in a deep network; kernels on integers change more."""


@dataclass(frozen=True)
class Mended:
    """The result of one repair.

    Attributes:
        repair: the repair.
        found: the places of the fault.
        kept: whether it is part of the result.
        reason: the reason, in words.
        moved: change of the outputs with optimizations off, see `change`; None if it was not run.
        deployed: change of the outputs as the runtime runs both models; None if it was not run.
        speed: speed-up over the model before; None if it was not measured.
        size: bytes before and after.
    """

    repair: Repair
    found: Faults
    kept: bool
    reason: str
    moved: float | None = None
    deployed: float | None = None
    speed: Interval | None = None
    size: tuple[int, int] = (0, 0)

    @property
    def exact(self) -> bool:
        """Return whether the repair must keep outputs equal, which is then proved."""
        return self.repair.exact and self.found.exact


@dataclass(frozen=True)
class Limits:
    """The limits of repairs.

    Attributes:
        target: processor that will run the result.
        most: largest change of an output by inexact repairs, and by the runtime's kernels.
        clock: measures models; None if times on this machine do not apply to the target.
        unmeasured: the reason why there is no clock.
        repairs: the repairs to try, in order.
    """

    target: Target
    most: float
    clock: Clock | None
    unmeasured: str = ""
    repairs: tuple[Repair, ...] = field(default=REPAIRS, repr=False)


def mend(model: ir.Model, witness: Witness, limits: Limits) -> Iterator[tuple[ir.Model, Mended]]:
    """Try every repair whose fault is present; yield the model after it, and its result.

    Args:
        model: the input model (not modified).
        witness: runs `model` and its repaired forms.
        limits: the limits of repairs.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
    """
    current, plain = model, witness.truth
    for repair in limits.repairs:
        found = repair.find(current, limits.target)
        if not found.sites:
            if found.left:
                yield current, Mended(repair, found, False, "nothing of it can be mended")
            continue
        try:
            candidate = repair.mended(current, found)
            check_structure(candidate)
            check(candidate)
            outputs = witness.plain(candidate)
            as_run = witness.deployed(candidate)
        except OnnxoptError as error:
            yield current, Mended(repair, found, False, f"the result does not run: {error.why or error.what}")
            continue
        tried = _judged(
            current, candidate, repair, found, witness=witness, outputs=(plain, outputs, as_run), limits=limits
        )
        if tried.kept:
            current, plain = candidate, outputs
        yield current, tried


def _judged(
    before: ir.Model,
    after: ir.Model,
    repair: Repair,
    found: Faults,
    *,
    witness: Witness,
    outputs: tuple[Outputs, Outputs, Outputs],
    limits: Limits,
) -> Mended:
    plain, repaired, as_run = outputs
    exact = repair.exact and found.exact
    moved = change(plain, repaired) if exact else change(witness.truth, repaired)
    deployed = change(witness.truth, as_run)
    size = size_bytes(before), size_bytes(after)
    speed: Interval | None = None
    bound = moved if exact else likely_change(witness.truth, repaired)
    reordering = _reordered(repair.reordering, witness.slack) if exact else None
    reason = _unlike(reordering, bound, deployed, witness.slack, limits.most)
    kept = not reason
    if kept and limits.clock is not None:
        latency = limits.clock(before, after)
        speed = latency.speedup
        kept, reason = _worth(repair.purpose, speed, latency.unsure, size)
    elif kept:
        kept, reason = _unmeasured(repair, size, limits.unmeasured)
    return Mended(repair, found, kept, reason, moved, deployed, speed, size)


def _reordered(reordering: float, slack: float) -> float:
    """Return the allowed change by another order of float operations: of a deep network as much as the runtime's own.

    Args:
        reordering: change that is always allowed; 0 for a repair that keeps every bit.
        slack: the given file's change as deployed, whose kernels add in another order too.
    """
    return max(reordering, min(2 * slack, _MOST_REORDERED)) if reordering else 0.0


def _unlike(reordering: float | None, moved: float, deployed: float, slack: float, most: float) -> str:
    """Return the reason why the outputs differ from those of the file before; "" if they do not.

    Args:
        reordering: allowed change by an exact repair; None for an inexact one.
        moved: change with optimizations off; by an inexact repair, the upper end of its interval.
        deployed: change as deployed, from the given file's outputs with optimizations off.
        slack: the given file's own change as deployed.
        most: allowed change by an inexact repair.
    """
    # Comparisons with NaN are false: each limit must hold.
    if reordering is not None and not moved <= reordering:
        return f"outputs are not equal: they change by {moved:.1e}"
    if not moved <= most:
        return f"outputs change by up to {units.share(moved, 1)}, {units.share(most, 1)} is allowed"
    if not deployed <= max(2 * slack, most):
        return (
            f"as run, outputs change by {units.share(deployed, 1)}, {units.share(max(2 * slack, most), 1)} is allowed"
        )
    return ""


def _worth(purpose: Purpose, speed: Interval | None, unsure: str, size: tuple[int, int]) -> tuple[bool, str]:
    """Return whether a proved repair is kept, and the reason."""
    if speed is None:
        return False, f"whether it is faster is unsure: {unsure}"
    if purpose is Purpose.SIZE:
        if size[1] >= size[0]:
            return False, "not smaller"
        return speed.high >= 1, "smaller" if speed.high >= 1 else "slower"
    return speed.low > 1, "faster" if speed.low > 1 else "not faster beyond doubt"


def _unmeasured(repair: Repair, size: tuple[int, int], why: str) -> tuple[bool, str]:
    if repair.purpose is Purpose.SIZE:
        return size[1] < size[0], "smaller" if size[1] < size[0] else "not smaller"
    if repair.for_target:
        return True, f"for the target; {why}"
    return False, why
