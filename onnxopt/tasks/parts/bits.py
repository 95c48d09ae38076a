"""Forms of a part with the bits of each matrix chosen: by its share of the divergence, and its time at the lengths."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import format_passes
from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.generation.chain import Chain
from onnxopt.measure.generation.perplexity import shares_of
from onnxopt.measure.generation.speed import Length
from onnxopt.measure.latency.remembered import cache_folder
from onnxopt.measure.tasks.tokens.scores import divergence
from onnxopt.pipeline import Pass, Pipeline
from onnxopt.search.losses import Base
from onnxopt.search.mix.bits import WeightedFeeds, bit_tables, has_matrices
from onnxopt.search.mix.cost_tables import CostTables
from onnxopt.search.mix.layer_times import LayerTimes
from onnxopt.search.mix.mixer import ROUNDS, Mixer
from onnxopt.search.trial import Candidate
from onnxopt.tasks.parts.forms import PartForm, make_form
from onnxopt.tasks.parts.job import PartsJob
from onnxopt.tasks.parts.roles import ENCODER

TEXTS = 8
"""Texts on which the divergence of single matrices is measured; that of a whole mix is measured on all."""
SECONDS = 60.0
"""Time for the divergences of the matrices of a part in one form."""
_FIRST = 0.5
"""Share of the budget that the first mix may lose."""


class ChainLosses:
    """Measures the mean divergence of a token in nats, with one file of a folder changed by passes."""

    def __init__(self, job: PartsJob, file: Path) -> None:
        self._job, self._file, self._texts = job, file, job.search[:TEXTS]
        self._expected = self._read(job.parts.chain)
        self._bases = dict[Base, ir.Model]()

    def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Return the divergence by pass; infinite for a failed one."""
        if base not in self._bases:
            self._bases[base] = Pipeline(base).run(model_file.load(self._file), self._job.context).model
        return [self._of(self._bases[base], spec) for spec in specs]

    def _of(self, model: ir.Model, spec: Pass) -> float:
        try:
            made = Pipeline((spec,)).run(model, self._job.context).model
            found = self._read(self._job.parts.with_files({self._file: made}))
        except (ModelError, NativeError):
            return inf
        nats = np.concatenate([divergence(*pair) for pair in zip(self._expected, found, strict=True)])
        return float(nats.mean())

    def _read(self, chain: Chain) -> list[np.ndarray]:
        """Return the log-probabilities behind the tokens of each text."""
        begin, new = chain.load(self._job.runtime), self._job.length.new
        return [
            shares_of(begin(text.start)[0], text.tokens, Length(len(text.start.tokens), new)) for text in self._texts
        ]


def mixed_forms(
    job: PartsJob, part: str, uniform: Mapping[str, float], drop_of: Callable[[PartForm], float]
) -> list[tuple[PartForm, float]]:
    """Return forms of a part, each of whose matrices has the form that the integer program gives it, and their drops.

    A part of several files, or with small matrices only, has none; a mix that is a uniform form is left out.

    Args:
        job: the search.
        part: the name of the part.
        uniform: drops of the forms that were measured before, by their passes.
        drop_of: measures the drop of a form.
    """
    files, found = job.parts.files[part], list[tuple[PartForm, float]]()
    model = model_file.load(files[0])
    if len(files) > 1 or not job.allowed > 0 or not has_matrices(model):
        return found

    def tables() -> CostTables:
        return bit_tables(
            model,
            job.context,
            _lengths(job, part),
            goal=job.goal,
            times=LayerTimes(cache_folder(), job.runtime),
            clock=partial(_as_called, job, part, files[0]),
            losses=ChainLosses(job, files[0]),
            seconds=SECONDS,
        )

    mixer = Mixer(tables, _FIRST * job.allowed)
    for number in range(1, ROUNDS + 1):
        chosen = _next(mixer)
        if chosen is None:
            break
        name, passes = f"bits per matrix {number}", format_passes(chosen.passes)
        if passes not in uniform:
            made = make_form(part, files, name, passes, place=job.place, context=job.context)
            if not isinstance(made, PartForm):
                break
            found.append((made, drop_of(made)))
        lost = max(found[-1][1] if passes not in uniform else uniform[passes], 0.0)
        mixer.learn(good=lost <= job.allowed, share=lost / job.allowed)
    return found


def _next(mixer: Mixer) -> Candidate | None:
    """Return the next mix; None without one, or where the tables cannot be made."""
    try:
        return mixer.next()
    except (ModelError, NativeError):
        return None


def _as_called(job: PartsJob, part: str, file: Path, models: Mapping[str, ir.Model]) -> list[dict[str, float]]:
    """Return the times of a part in different forms while texts are generated, for each of its lengths."""
    chains = {name: job.parts.with_files({file: model}) for name, model in models.items()}
    found = job.timing.measure(chains, job.options.latency_s * len(chains))
    times = [{name: speed.first_token_ms for name, speed in found.items()}]
    if _steps(job, part):
        times.append({name: 1000 / speed.tokens_per_s for name, speed in found.items()})
    return times


def _steps(job: PartsJob, part: str) -> float:
    """Return the weight of a run of a part behind the prompt."""
    return 0.0 if part == ENCODER else job.timing.steps


def _lengths(job: PartsJob, part: str) -> WeightedFeeds:
    """Return the inputs of a part with the weights of their runs: of a decoder the prompt, and one token behind it."""
    start, prompts, steps = job.timing.starts[0], job.timing.prompts, _steps(job, part)
    if part == ENCODER:
        return [(start.given, prompts)]
    walk, given = job.parts.chain.load(job.runtime)(start)
    token = int(walk.feed(given)[-1].argmax())
    prompt = walk.latest
    walk.feed(np.array([token]))
    return [(prompt, prompts), (walk.latest, steps)] if steps else [(prompt, prompts)]
