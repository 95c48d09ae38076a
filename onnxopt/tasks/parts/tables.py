"""Tables of the bits per matrix of a part, whose graphs have one choice for a matrix of both."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from onnxopt.catalog import format_passes
from onnxopt.measure.latency.remembered import cache_folder
from onnxopt.samples import Feeds
from onnxopt.search.mix.bits import bit_tables, named_base
from onnxopt.search.mix.cost_tables import CostTables
from onnxopt.search.mix.layer_times import LayerTimes
from onnxopt.search.mix.mixer import candidate_of
from onnxopt.solver import FLOAT, LayerOptions, Mix, Problem
from onnxopt.tasks.parts.job import PartsJob
from onnxopt.tasks.parts.losses import ChainLosses
from onnxopt.tasks.parts.pieces import Pieces
from onnxopt.tasks.parts.roles import ENCODER
from onnxopt.tasks.parts.twins import Twins, twins_of

SECONDS = 60.0
"""Time for the divergences of the matrices of a file in one form."""


class PartRun(NamedTuple):
    """A run of a file.

    Attributes:
        feeds: its inputs.
        weight: its weight in the time of the folder.
        first: whether it belongs to the time of the first token; else to that of each later one.
    """

    feeds: Feeds
    weight: float
    first: bool


@dataclass(frozen=True)
class PartTables:
    """The tables of the files of a part.

    Attributes:
        by_file: the table of each file, by the layer names of that file.
        twins: layers of several files that have the same matrix.
        rest: layers of further files, which hold the same matrices and read no text.
    """

    by_file: Mapping[Path, CostTables]
    twins: Twins
    rest: Twins = field(default_factory=partial(Twins, {}, {}))

    @property
    def joint(self) -> CostTables:
        """One table of all files: a matrix that several have is one layer, in the forms that all of them take."""
        shared = defaultdict[str, list[LayerOptions]](list)
        for path, tables in self.by_file.items():
            for name, layer in tables.problem.layers.items():
                shared[self.twins.unit(path, name)].append(layer)
        layers = {unit: _together(some) for unit, some in shared.items()}
        all_tables = self.by_file.values()
        forms = {mode: spec for tables in all_tables for mode, spec in tables.forms.items()}
        fixed = sum(tables.problem.fixed for tables in all_tables)
        original = sum(tables.original for tables in all_tables)
        return CostTables(Problem({}, layers, fixed=fixed), original, {}, {}, (), None, forms)

    def passes(self, mix: Mix) -> dict[Path, str]:
        """Return the pipeline of each file that gives its matrices the forms of a mix of the joint table."""
        found = {}
        for path, tables in self.by_file.items():
            modes = {name: mix.modes[self.twins.unit(path, name)] for name in tables.problem.layers}
            found[path] = format_passes(candidate_of(tables, Mix({}, modes), 1).passes)
        return {**found, **self._passes_of_rest(mix)}

    def _passes_of_rest(self, mix: Mix) -> dict[Path, str]:
        """Return the pipelines that give the matrices of further files the forms of their twins, and others none."""
        joint, found = self.joint, dict[Path, str]()
        free = {mode: np.zeros(()) for mode in (FLOAT, *joint.forms)}
        for file in self.rest.names:
            units = {name: unit for (path, name), unit in self.rest.units.items() if path == file}
            known = joint.problem.layers
            layers = {
                name: known.get(unit, LayerOptions((), free, dict.fromkeys(free, 0.0))) for name, unit in units.items()
            }
            modes = {name: mix.modes.get(unit, FLOAT) for name, unit in units.items()}
            tables = CostTables(Problem({}, layers), 1.0, {}, {}, (), None, joint.forms)
            found[file] = format_passes(candidate_of(tables, Mix({}, modes), 1).passes)
        return found


def part_tables(job: PartsJob, part: str, pieces: Pieces) -> PartTables:
    """Measure the tables of the graphs of a part.

    Raises:
        ModelError, NativeError: a file cannot be built in a form, or not be run.
    """
    twins = twins_of({path: named_base(model, job.context) for path, model in pieces.models.items()})
    times, found = LayerTimes(cache_folder(), job.runtime), dict[Path, CostTables]()
    for (path, model), runs in zip(pieces.models.items(), _runs(job, part, len(pieces.models)), strict=True):
        found[path] = bit_tables(
            model,
            job.context,
            [(run.feeds, run.weight) for run in runs],
            goal=job.goal,
            times=times,
            clock=partial(_as_called, job, pieces, path, runs),
            losses=ChainLosses(job, pieces, path, twins),
            seconds=SECONDS,
            # A node of a later opset would be of no use in one of two branches, which have one opset.
            fuse=pieces.around is None,
        )
    rest = twins_of({path: named_base(model, job.context) for path, model in pieces.rest.items()})
    return PartTables(found, twins, rest)


def _together(layers: Sequence[LayerOptions]) -> LayerOptions:
    """Return the options of a layer of several files: costs and losses of all of them."""
    modes = [mode for mode in layers[0].costs if all(mode in layer.costs for layer in layers)]
    costs = {mode: np.sum([layer.costs[mode] for layer in layers], axis=0) for mode in modes}
    return LayerOptions((), costs, {mode: sum(layer.losses[mode] for layer in layers) for mode in modes})


def _as_called(
    job: PartsJob, pieces: Pieces, file: Path, runs: Sequence[PartRun], models: Mapping[str, ir.Model]
) -> list[dict[str, float]]:
    """Return the times of a graph in different forms while texts are generated, for each of its runs."""
    chains = {name: job.parts.with_files(pieces.files({file: model})) for name, model in models.items()}
    found = job.timing.measure(chains, job.options.latency_s * len(chains))
    first = {name: speed.first_token_ms for name, speed in found.items()}
    later = {name: 1000 / speed.tokens_per_s for name, speed in found.items()}
    return [first if run.first else later for run in runs]


def _runs(job: PartsJob, part: str, graphs: int) -> list[list[PartRun]]:
    """Return the runs of each graph of a part: of a decoder the prompt, and one token behind it."""
    start, timing = job.timing.starts[0], job.timing
    if part == ENCODER:
        return [[PartRun(start.given, timing.prompts, first=True)]]
    walk, given = job.parts.chain.load(job.runtime)(start)
    token = int(walk.feed(given)[-1].argmax())
    prompt = PartRun(walk.latest, timing.prompts, first=True)
    walk.feed(np.array([token]))
    step = PartRun(walk.latest, timing.steps, first=False)
    if graphs > 1:
        return [[prompt], [step]]
    return [[prompt, step] if step.weight else [prompt]]
