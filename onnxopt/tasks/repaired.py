"""Repairs as a table: fault, repair, proof and gain."""

from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir

from onnxopt.document import units
from onnxopt.document.blocks import Column, Displayed, Document, Table, Text
from onnxopt.measure.statistics import Interval
from onnxopt.record.steps import frequent_reasons
from onnxopt.repairs.mending import Mended

_NAMED = 2
_MENDS = "; `repair` mends it"
_COLUMNS = (Column("code"), Column("where"), Column("proof"), Column("speed-up", number=True))
_MORE = (Column("size"), Column("result"))


@dataclass(frozen=True)
class Repaired(Displayed):
    """A file that was looked at, and mended where that helps.

    Attributes:
        model: the result; the given one where nothing helps.
        tried: every repair whose fault was found.
        size: bytes before and after.
        speed: the speed of the result over the given file; None where it was not measured or nothing was kept.
        moved: the change of the outputs with optimizations off; 0 is bit for bit.
        deployed: likewise as the runtime runs both.
        batches: inputs that outputs were compared on: made-up and given ones.
        inputs: the inputs that were timed, in words.
        reason: the reason for keeping the original, or for writing the result.
        files: written files, the `.onnx` file first.
        source: file it was made from; None where the model was given in memory.
        target: processor the result is for.
    """

    model: ir.Model
    tried: tuple[Mended, ...]
    size: tuple[int, int]
    speed: Interval | None
    moved: float
    deployed: float
    batches: int
    reason: str
    files: tuple[Path, ...] = ()
    source: Path | None = None
    target: str = ""
    inputs: str = ""

    @property
    def kept(self) -> tuple[Mended, ...]:
        """The repairs that are part of the result."""
        return tuple(tried for tried in self.tried if tried.kept)

    @property
    def document(self) -> Document:
        """Each fault and the result of its repair."""
        return repaired_document(self)


def repaired_document(done: Repaired) -> Document:
    """Return one row per fault that was found, and the gain of all repairs together."""
    rows = tuple(_row(one) for one in done.tried)
    lines = [_sum(done)]
    lines += [
        f"{one.repair.code}: {one.repair.fault.removesuffix('; `repair` mends it')}: {one.repair.does}."
        for one in done.tried
    ]
    lines += frequent_reasons(skip for one in done.tried for skip in one.found.left)
    if done.tried:
        timed = f"; times are those of {done.inputs}" if any(one.speed is not None for one in done.tried) else ""
        lines.append(f"Outputs were compared on {units.many(done.batches, 'batch', 'batches')}{timed}.")
    lines.append(_written(done))
    data = {
        "target": done.target,
        "repairs": [_data(one) for one in done.tried],
        "kept": [one.repair.code for one in done.kept],
        "reason": done.reason,
        "speedup": _interval(done.speed),
        "change": done.moved,
        "change_as_run": done.deployed,
        "batches": done.batches,
        "inputs": done.inputs,
        "size_before_bytes": done.size[0],
        "size_after_bytes": done.size[1],
        "files": [str(file) for file in done.files],
    }
    table = (Table((*_COLUMNS, *_MORE), rows),) if rows else ()
    return Document((*table, Text(tuple(lines))), data)


def _sum(done: Repaired) -> str:
    name = str(done.source or "The model")
    if not done.kept:
        return f"{name}: {done.reason}."
    speed = done.speed
    fast = done.reason if speed is None else units.faster(speed.low, speed.value, speed.high)
    same = (
        "outputs equal with the runtime's optimizations off"
        if not done.moved
        else f"outputs change by {_share(done.moved)}"
    )
    ratio = units.smaller(done.size[0] / max(done.size[1], 1))
    return f"{name}: {fast}; {ratio}; {same}, {_share(done.deployed)} as run."


def _written(done: Repaired) -> str:
    if done.files:
        return f"Written: {', '.join(map(str, done.files))}."
    return "Nothing was written."


def _row(one: Mended) -> tuple[str, ...]:
    names = one.found.where
    where = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    speed = "-" if one.speed is None else f"{units.times(one.speed.value)} {units.times_interval(one.speed)}"
    before, after = one.size
    size = f"{units.size(before)} to {units.size(after)}" if before else "-"
    result = f"kept: {one.reason}" if one.kept else f"undone: {one.reason}"
    return one.repair.code, where or "-", _proof(one), speed, size, result


def _proof(one: Mended) -> str:
    if one.moved is None or one.deployed is None:
        return "-"
    equal = "bit-equal" if one.exact and not one.moved else f"within {_share(one.moved)}"
    return f"{equal}; as run {_share(one.deployed)}"


def _share(value: float) -> str:
    return units.share(value, 2) if value == 0 or value >= 1e-4 else f"{value:.0e}"


def _data(one: Mended) -> dict[str, object]:
    return {
        "code": one.repair.code,
        "does": one.repair.does,
        "fault": one.repair.fault,
        "where": list(one.found.where),
        "left": [{"target": skip.target, "reason": skip.reason} for skip in one.found.left],
        "exact": one.exact,
        "change": one.moved,
        "change_as_run": one.deployed,
        "speedup": _interval(one.speed),
        "size_before_bytes": one.size[0],
        "size_after_bytes": one.size[1],
        "kept": one.kept,
        "reason": one.reason,
    }


def _interval(speed: Interval | None) -> object:
    return None if speed is None else asdict(speed)
