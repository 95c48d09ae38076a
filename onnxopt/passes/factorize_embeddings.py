"""Low-rank factorization of embedding tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.document import units
from onnxopt.errors import UsageError
from onnxopt.graph.channels.find import normalized
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import set_weight, tensor_in
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.measure.runtime.activations import Activations
from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.measure.verdict import PROVED, PROVED_HALF, one_sample, prove, time_share
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.reconstruction.batches import rebatched
from onnxopt.samples import Samples

_USUAL_ENERGY = 0.95
_SLOWER = 1.03
"""Ratio of times below which two models count as equally fast."""
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


@dataclass(frozen=True)
class FactorizeEmbeddings(Pass):
    """Factorize embedding tables into two smaller ones, for file size.

    The factors keep the directions with the largest variance of the rows, weighted by the frequency of each row in the
    samples. The file and the memory shrink; a small product follows the lookup, so a model that becomes measurably
    slower is left unchanged.

        Gather(30000 x 192)   ->   Gather(30000 x 48) - MatMul(48 x 192)

    After Lan et al., "ALBERT", ICLR 2020, where both tables are trained; here they come from an eigendecomposition.

    Attributes:
        energy: least share of the rows' squared length to keep; 0.95 when neither is given.
        rank_ratio: largest share of the width to keep.
        verify: measure the model, and undo factorizations that make it slower.
        exclude: names of Gather nodes whose tables are not factorized.
    """

    name: ClassVar[str] = "factorize-embeddings"
    effect: ClassVar[Effect] = Effect.LOSSY

    energy: Annotated[float, Field(gt=0, lt=1)] | None = None
    rank_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    verify: bool = True
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Factorize the embeddings of `model`; skips name the other tables with reasons.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name, ONX109 both goals are given.
        """
        if self.energy is not None and self.rank_ratio is not None:
            raise UsageError(
                "ONX109",
                "options of pass factorize-embeddings contradict each other",
                where="energy, rank_ratio",
                why="each one sets the rank",
                hint="Give one of them.",
            )
        work = normalized(model)
        require_nodes(work, self.exclude)
        tables, skipped = self._tables(work)
        if not tables:
            return Applied(model, (), tuple(skipped))
        counts = _lookups(work, tables, rebatched(model, context.calibration))
        wanted, result = work.clone(), work.clone()
        writer, edits = NodeWriter(result, "embedding"), list[Edit]()
        for name in tables:
            table = tensor_in(tables[name])
            rows = table.numpy().astype(np.float64)
            basis, kept = self._basis(rows, counts.get(name))
            rank = basis.shape[1]
            if rank * sum(rows.shape) >= rows.size:
                skipped.append(Skip(name, f"it needs {rank} of {rows.shape[1]} dimensions: two tables would be larger"))
                continue
            kind = table.dtype.numpy()
            narrow, wide = (rows @ basis).astype(kind), basis.T.astype(kind)
            set_weight(wanted.graph.initializers[name], narrow @ wide)
            _split(result, writer, name, narrow, wide)
            share = rank * sum(rows.shape) / rows.size
            sizes = f"{units.share(share)} of its size, {units.share(kept, 1)} energy"
            what = f"{rows.shape[0]} x {rows.shape[1]} to rank {rank}: {sizes}"
            edits.append(Edit(name, what))
        if not edits:
            return Applied(model, (), tuple(skipped))
        feeds = one_sample(model, context.calibration)
        half = any(tables[name].dtype is ir.DataType.FLOAT16 for name in tables)
        difference, reason = prove(wanted, result, feeds, PROVED_HALF if half else PROVED)
        share_of_time, note = time_share(model, result, feeds) if self.verify and not reason else (None, "")
        if share_of_time is not None and share_of_time > _SLOWER:
            reason = f"undone: with two tables the model took {share_of_time:.2f} times the time of the original"
        if reason:
            return Applied(model, (), (*skipped, *(Skip(edit.target, reason) for edit in edits)))
        skipped += [Skip("graph", note)] if note else []
        return Applied(result, tuple(edits), tuple(skipped), difference)

    def _tables(self, model: ir.Model) -> tuple[dict[str, ir.Value], list[Skip]]:
        """Return the tables to factorize by name, and skips for the others."""
        found, skipped = dict[str, ir.Value](), list[Skip]()
        for name, value in model.graph.initializers.items():
            nodes = [node for node, slot in value.uses() if node.op_type == "Gather" and not node.domain and not slot]
            tensor = value.const_value
            if not nodes or tensor is None or len(tensor.shape) != 2 or tensor.dtype not in _FLOATS:
                continue
            reason = (
                "excluded by name" if any(n.name in self.exclude for n in nodes) else _obstacle(model, value, nodes)
            )
            if reason:
                skipped.append(Skip(name, reason))
            else:
                found[name] = value
        if not found and not skipped:
            skipped.append(Skip("graph", "it has no embedding table"))
        return found, skipped

    def _basis(self, rows: np.ndarray, counts: np.ndarray | None) -> tuple[np.ndarray, float]:
        """Return the directions to keep, (width, rank), and the share of the rows' squared length in them."""
        # Rows without a lookup in the samples keep some weight: deployment may look them up.
        weights = np.ones(len(rows)) if counts is None else counts + counts.mean() + 1e-9
        raise_if_interrupted()
        energies, directions = np.linalg.eigh((rows * weights[:, None]).T @ rows)
        shares = np.cumsum(np.maximum(energies[::-1], 0)) / max(float(energies.sum()), 1e-300)
        if self.rank_ratio is not None:
            rank = max(int(self.rank_ratio * rows.shape[1]), 1)
        else:
            rank = int(np.searchsorted(shares, self.energy or _USUAL_ENERGY)) + 1
        rank = min(rank, rows.shape[1])
        return directions[:, ::-1][:, :rank], float(shares[rank - 1])


def _lookups(model: ir.Model, tables: dict[str, ir.Value], samples: Samples | None) -> dict[str, np.ndarray]:
    """Return the number of lookups of each row of each table in the samples; {} without samples."""
    if samples is None:
        return {}
    read = {name: [node.inputs[1] for node, _ in value.uses()] for name, value in tables.items()}
    indices = {v.name or "" for values in read.values() for v in values if v is not None}
    counts = {name: np.zeros(_height(value)) for name, value in tables.items()}
    for seen in Activations(model, sorted(indices)).of(samples):
        for name, values in read.items():
            for value in values:
                at = seen[value.name or ""] if value is not None else np.empty(0, np.int64)
                np.add.at(counts[name], at.astype(np.int64).reshape(-1), 1)
    return counts


def _height(value: ir.Value) -> int:
    assert value.shape is not None
    return int(value.shape.numpy()[0])


def _split(model: ir.Model, write: NodeWriter, name: str, narrow: np.ndarray, wide: np.ndarray) -> None:
    table = model.graph.initializers[name]
    set_weight(table, narrow)
    widening = write.constant(wide, wide.dtype.type)
    for node in [node for node, _ in table.uses()]:
        found, write.anchor = node.outputs[0], node
        readers = list(found.uses())
        made = write("MatMul", found, widening)
        made.shape, found.shape = found.shape, None
        for reader, slot in readers:
            reader.replace_input_with(slot, made)
    model.graph.sort()


def _obstacle(model: ir.Model, table: ir.Value, nodes: Sequence[ir.Node]) -> str:
    """Return the reason why a table that these nodes look rows up in cannot be factorized; "" if it can."""
    if len(nodes) < len(list(table.uses())) or table.is_graph_output():
        return "another node than Gather reads it"
    if any(node.graph is not model.graph for node in nodes):
        return "its Gather is inside a branch or a loop"
    if any(node.outputs[0].is_graph_output() for node in nodes):
        return "its rows are an output of the model"
    if any(node.attributes.get_int("axis", 0) for node in nodes):
        return "its Gather does not select rows"
    if table.const_value is not None and not np.isfinite(np.asarray(table.const_value.numpy(), np.float32)).all():
        return "it has values that are not finite"
    return ""
