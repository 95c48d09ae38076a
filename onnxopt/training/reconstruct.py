"""Block-by-block training to match the original's blocks, without labels and with few samples.

Source: Li et al., "BRECQ: Pushing the limit of post-training quantization by block reconstruction", ICLR 2021. What a
block is given is what the student makes so far, so that each block makes up for the errors of those before it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isnan

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from onnxopt.errors import ModelError, NativeError
from onnxopt.graph.cut_points import cut_points
from onnxopt.measure.runtime.activations import Activations, Arrays, ending_at
from onnxopt.measure.runtime.replay import starting_at
from onnxopt.samples import Samples
from onnxopt.samples.core import Batch
from onnxopt.training.batches import Batches, in_batches, split_held_out
from onnxopt.training.channel_match import Match, match
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.module.write_back import write_back
from onnxopt.training.ops.convert import FLOATS, to_tensor, to_tensors
from onnxopt.training.schedule import Schedule
from onnxopt.training.trainer import ALIKE, Trainer

LIMIT_BYTES = 1 << 30
"""Largest memory of a block's inputs and targets; samples beyond it are not used."""
_SAME = 1e-2
"""Root of the mean square by which torch may differ from ONNX Runtime, relative to the size of a block's outputs."""

MakeModule = Callable[[ir.Model, Sequence[str]], TorchModel]
"""Makes the module of a block, given the block and the names it is to compute."""
WriteBack = Callable[[ir.Model, TorchModel], ir.Model]
Penalty = Callable[[TorchModel, float], Tensor]
"""Added to the loss, given the share of the steps that is done."""


@dataclass(frozen=True)
class End:
    """The target of a value of the student: a value of the teacher, or some of its channels."""

    name: str
    match: Match = field(default_factory=Match)


Ends = dict[str, End]
"""By names of the student's values."""


@dataclass(frozen=True)
class Reconstruction:
    """Options of training the blocks of a quantized model, one after another.

    Attributes:
        epochs: times each block sees the samples, when `steps` is 0.
        steps: the steps of the optimizer for each block, in place of `epochs`.
        schedule: all else about the steps; its own number of steps does not count.
        held_out: share of the samples that judges.
        device: the device of torch.
    """

    epochs: float = 20.0
    steps: int = 0
    schedule: Schedule = field(default_factory=lambda: Schedule(1, batch_size=32))
    held_out: float = 0.2
    device: str = "cpu"


@dataclass(frozen=True)
class TrainedBlock:
    """The result for one block: its end, the held-out error as a share of the variance, and why it is unchanged."""

    end: str
    before: float = 0.0
    after: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Method:
    """The trained parameters of blocks: all float weights by default."""

    module: MakeModule = lambda model, names: TorchModel(model, outputs=names)
    write_back: WriteBack = write_back
    penalty: Penalty | None = None


def reconstruct(
    student: ir.Model,
    teacher: ir.Model,
    samples: Samples,
    options: Reconstruction,
    *,
    seed: int = 0,
    method: Method | None = None,
) -> tuple[ir.Model, tuple[TrainedBlock, ...]]:
    """Return `student` with the weights of each block that came closer to its teacher, and the outcome of every block.

    Blocks end where both graphs have a value of one name that all after it goes through. Where the student's is
    narrower, its channels are compared with those of the teacher that they are most like.
    """
    method = method or Method()
    samples = in_batches(student, samples, options.schedule.batch_size)
    parts = split_held_out(samples, options.held_out, seed)
    if parts is None:
        return student, (TrainedBlock("model", reason="too few samples for training and held-out evaluation"),)
    ends, different = common_ends(student, teacher, parts[1])
    blocks = [
        TrainedBlock(name, reason="its channels cannot be matched with those of the original") for name in different
    ]
    current, start = student, ""
    torch.manual_seed(seed)
    for end in ends:
        try:
            current, block = _one(current, teacher, start, end, parts=parts, options=options, seed=seed, method=method)
        except (ModelError, NativeError) as error:
            block = TrainedBlock(
                next(iter(end)), reason=f"{error.what}{f': {error.why}' if error.why else ''}".replace("\n", " ")
            )
        blocks.append(block)
        start = next(iter(end))
    return current, tuple(blocks)


def common_ends(student: ir.Model, teacher: ir.Model, samples: Samples) -> tuple[list[Ends], list[str]]:
    """Return the ends of blocks in graph order, the float outputs last, and values that cannot be compared."""
    known, plain = {v.name for node in teacher.graph for v in node.outputs}, _before_rounding(student)
    outputs: Ends = {v.name or "": End(v.name or "") for v in student.graph.outputs if v.dtype in FLOATS}
    groups = [[name for name in group if plain.get(name, name) in known] for group in cut_points(student)]
    ends, different = list[Ends](), list[str]()
    names = [name for group in groups for name in group]
    if names:
        one = next(Activations(student, names).of(samples))
        targets = next(Activations(teacher, [plain.get(name, name) for name in names]).of(samples))
        other = {name: targets[plain.get(name, name)] for name in names}
    for group in groups:
        both = [(n, match(one[n], other[n])) for n in group if one[n].dtype == other[n].dtype == np.float32]
        alike = {n: found for n, found in both if found is not None}
        if alike:
            # The largest says most; of those the last, behind the activation.
            end = max(reversed(alike), key=lambda n: one[n].size)
            ends.append({end: End(plain.get(end, end), alike[end])})
        elif group:
            different.append(group[-1])
    return [*ends, outputs] if outputs else ends, different


def _before_rounding(model: ir.Model) -> dict[str, str]:
    """Return the value that each DequantizeLinear gives rounded; activations may be part of the rounding."""
    found = {}
    for node in model.graph:
        source = node.inputs[0].producer() if node.op_type == "DequantizeLinear" and node.inputs[0] else None
        if source is not None and source.op_type == "QuantizeLinear" and source.inputs[0] is not None:
            found[node.outputs[0].name or ""] = source.inputs[0].name or ""
    return {value: name for value, name in found.items() if value not in {v.name for v in model.graph.outputs}}


@dataclass(frozen=True)
class _Recorded(Batches):
    """Inputs and targets of a block, batch by batch; each step sees one of them."""

    recorded: tuple[Batch, ...] = ()

    def at(self, step: int) -> Iterator[Batch]:
        epoch, place = divmod(step, len(self.recorded))
        yield self.recorded[int(np.random.default_rng([self.seed, epoch]).permutation(len(self.recorded))[place])]


def _one(
    student: ir.Model,
    teacher: ir.Model,
    start: str,
    ends: Ends,
    *,
    parts: tuple[Samples, Samples],
    options: Reconstruction,
    seed: int,
    method: Method,
) -> tuple[ir.Model, TrainedBlock]:
    end = next(iter(ends))
    learned, judged = (_record(student, teacher, start, ends, part) for part in parts)
    first = learned[0][0]
    part = ending_at(starting_at(student, {start: first[start]} if start else {}), [*ends])
    module = method.module(part, [*ends])
    module.eval()
    if not any(p.requires_grad for p in module.parameters()):
        return student, TrainedBlock(end, reason="it has no weights that can be trained")
    difference = _difference(module, judged[0])
    if isnan(difference):
        return student, TrainedBlock(end, reason="it gives values that are not finite")
    if difference > _SAME:
        return student, TrainedBlock(end, reason=f"torch computes it otherwise than ONNX Runtime, by {difference:.1e}")
    module.to(options.device)
    scales = {name: _variance([wanted[name] for _, wanted, _ in learned]) for name in ends}

    def error(feeds: Arrays, wanted: Arrays) -> Tensor:
        found = module(to_tensors(feeds, options.device))
        parts = [(found[n] - to_tensor(wanted[n]).to(options.device)).square().mean() / scales[n] for n in ends]
        return torch.stack(parts).mean()

    def score() -> float:
        with torch.no_grad():
            sizes = [next(iter(wanted.values())).shape[0] for _, wanted, _ in judged]
            errors = [float(error(feeds, wanted)) for feeds, wanted, _ in judged]
        return float(np.average(errors, weights=sizes))

    steps = options.steps or max(1, round(options.epochs * len(learned)))
    done = 0

    def loss(batch: Batch) -> Tensor:
        nonlocal done
        done += 1
        wanted = {n: batch.feeds[f"wanted {n}"] for n in ends}
        total = error({n: a for n, a in batch.feeds.items() if not n.startswith("wanted ")}, wanted)
        return total if method.penalty is None else total + method.penalty(module, done / steps)

    recorded = tuple(
        Batch({**feeds, **{f"wanted {n}": a for n, a in want.items()}}, None) for feeds, want, _ in learned
    )
    schedule = Schedule(**{**vars(options.schedule), "steps": steps})
    batches = _Recorded(parts[0], schedule.batch_size, seed, recorded=recorded)
    trained = Trainer(module, loss, score, batches, schedule).train()
    module.to("cpu")
    if trained.before < ALIKE:
        return student, TrainedBlock(end, reason="its outputs are those of the original already")
    if not trained.improved:
        reason = f"it came no closer on held-out samples: error {trained.before:.3g}, {trained.after:.3g} at best"
        return student, TrainedBlock(end, trained.before, trained.after, reason)
    return method.write_back(student, module), TrainedBlock(end, trained.before, trained.after)


_Seen = tuple[Arrays, Arrays, Arrays]
"""The inputs of a block, its targets, and its outputs."""


def _record(student: ir.Model, teacher: ir.Model, start: str, ends: Ends, samples: Samples) -> list[_Seen]:
    given = {v.name or "" for v in ending_at(student, [*ends]).graph.inputs}
    own = Activations(student, [*([start] if start else []), *ends]).of(samples)
    targets = Activations(teacher, [e.name for e in ends.values()]).of(samples)
    found, size = list[_Seen](), 0
    for feeds, mine, wanted in zip(samples, own, targets, strict=True):
        inputs = {n: a for n, a in feeds.items() if n in given} | ({start: mine[start]} if start else {})
        found.append((inputs, {n: e.match.of(wanted[e.name]) for n, e in ends.items()}, {n: mine[n] for n in ends}))
        size += sum(a.nbytes for part in found[-1] for a in part.values())
        if size > LIMIT_BYTES:
            break
    return found


def _difference(module: TorchModel, seen: _Seen) -> float:
    """Return the largest relative difference of an output; NaN where values are not finite."""
    with torch.no_grad():
        found = module(to_tensors(seen[0]))
    pairs = [(found[n].numpy().astype(np.float64), a.astype(np.float64)) for n, a in seen[2].items()]
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    if not all(np.isfinite(array).all() for pair in pairs for array in pair):
        return float("nan")
    return max(float(np.sqrt(np.mean((a - b) ** 2) / max(np.mean(b**2), 1e-12))) for a, b in pairs)


def _variance(arrays: Sequence[np.ndarray]) -> float:
    values = np.concatenate([a.ravel() for a in arrays[:8]]).astype(np.float64)
    return max(float(values.var()), 1e-12)
