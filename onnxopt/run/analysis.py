"""Analysis of a finished run, measured on the baseline and on best.onnx."""

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import onnx_ir as ir

from onnxopt.errors import OnnxoptError, first_line
from onnxopt.measure.latency.profile import Profile, profile
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.runtime.interrupt import TimeOver, raise_if_interrupted
from onnxopt.measure.runtime.session import Runtime
from onnxopt.pipeline import Pass
from onnxopt.record.analysis import AnalysisRecord, LayerRecord
from onnxopt.record.graph_record import graph_record
from onnxopt.run.predictions import answers, changed_samples, per_class
from onnxopt.run.quantization_sensitivity import sensitivities
from onnxopt.run.ranges import SAMPLES, clipping
from onnxopt.samples import Feeds
from onnxopt.search.parts import Parts, typical_feeds

MOST_ALONE, MOST_ALONE_MS = 150, 3000.0
"""Of a model with more kernels, or a longer sum of all runs with one layer quantized, no sensitivity is measured."""
MOST_LAYERS, TURNS, RUNS = 400, 3, 5
"""Layers that are listed; how often a model is profiled, and over how many runs each time."""


def analyze(
    original: ir.Model,
    best: ir.Model | None,
    parts: Parts,
    metric: Metric | None,
    *,
    runtime: Runtime,
    batch_size: int,
    passes: Sequence[Pass] = (),
) -> AnalysisRecord:
    """Measure the time by layer, the clipped values and the changed samples; a part that fails is named.

    Args:
        original: the model that was given.
        best: the model in best.onnx; None for the baseline.
        parts: the data of the run; ranges are held against search samples, answers come from the hold-out part.
        metric: None for fidelity.
        runtime: configuration of ONNX Runtime.
        batch_size: the batch size at which layers are timed.
        passes: the passes that made `best`; without them no layer's sensitivity is measured.

    Ctrl-C and the time limit, see `cut_when`, end the measurements; those made so far are returned.
    """
    attempts = _Attempts()
    attempt = attempts.attempt
    found: dict[str, Any] = {
        "before": attempt("graph of the baseline", lambda: graph_record(original)),
        "after": None if best is None else attempt("graph of best.onnx", lambda: graph_record(best)),
    }
    feeds: Feeds = typical_feeds(parts.search, batch_size)
    before = attempt("time by layer", lambda: _times(original, feeds, runtime))
    after = None if best is None else attempt("time by layer of best.onnx", lambda: _times(best, feeds, runtime))
    alone: dict[str, float] = {}
    if best is not None and before is not None and _affordable(before):
        alone = attempt("sensitivity", lambda: sensitivities(original, best, passes, parts.search)) or {}
    if before is not None:
        found["layers"] = _layers(original, before, after, alone)
        found["other_ms"] = tuple(times.pop("", (0.0, ""))[0] for times in (before, after) if times is not None)
    if best is not None:
        held = parts.search.take(SAMPLES)
        found["ranges"] = attempt("ranges", lambda: clipping(original, best, held, runtime)) or ()
        found["range_samples"] = len(held)
        given = attempt("answers by class", lambda: answers(original, best, parts.holdout, metric, runtime))
        if given is not None:
            found["samples"] = len(given.samples)
            found["classes"] = per_class(given)
            found["changed"], found["changed_count"] = changed_samples(given)
    return AnalysisRecord(**found, problems=tuple(attempts.problems))


class _Attempts:
    """Parts of an explanation, each of which may fail.

    Attributes:
        problems: a line for each that did.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._stopped = False

    def attempt(self, name: str, work: Callable[[], Any]) -> Any:
        """Return the result of `work`; None where it failed, and after an interruption for all that follow."""
        if self._stopped:
            return None
        try:
            raise_if_interrupted()
            return work()
        except KeyboardInterrupt:
            # The search is over and its result proved: only the rest of the explanation is given up.
            self._stop(f"{name} and later parts: interrupted")
        except TimeOver:
            self._stop(f"{name} and later parts: left out, because the time limit was reached")
        except OnnxoptError as error:
            self.problems.append(f"{name}: {error.why or error.what}")
        except Exception as error:  # an explanation that fails must not cost the result it would have explained
            self.problems.append(f"{name}: {first_line(error)}")
        return None

    def _stop(self, problem: str) -> None:
        self._stopped = True
        self.problems.append(problem)


def _affordable(times: "Times") -> bool:
    """Return whether every layer can be run alone in some seconds."""
    total_ms = sum(time_ms for time_ms, _ in times.values())
    return len(times) <= MOST_ALONE and len(times) * total_ms <= MOST_ALONE_MS


Times = dict[str, tuple[float, str]]
"""Milliseconds and slowest kernel by layer; those of kernels that belong to none are under the empty name."""


def _times(model: ir.Model, feeds: Feeds, runtime: Runtime) -> Times:
    """Return the median of several profiles: what disturbs one run by milliseconds would change the order of layers."""
    turns = [_by_name(profile(model, feeds, runtime, RUNS)) for _ in range(TURNS)]
    return {
        name: (median(turn.get(name, (0.0, ""))[0] for turn in turns), kernel) for name, (_, kernel) in turns[0].items()
    }


def _layers(
    original: ir.Model, first: Times, after: Times | None, alone: Mapping[str, float]
) -> tuple[LayerRecord, ...]:
    """Return the times of both models side by side, by the names of the baseline's nodes."""
    operators = {
        n.name or (n.outputs[0].name if n.outputs else "") or "": n.op_type for n in original.graph.all_nodes()
    }
    second = {} if after is None else _in_names_of(operators, after)
    by_home = {_home(name, operators): noise for name, noise in alone.items()}
    names = [name for name in (*first, *(n for n in second if n not in first)) if name]
    rows = [
        LayerRecord(
            name=name,
            op_type=operators.get(name) or (second.get(name) or first[name])[1],
            before_ms=first[name][0] if name in first else None,
            after_ms=second[name][0] if name in second else None,
            runs_as=second[name][1] if name in second else None,
            sqnr_db=by_home.get(name),
        )
        for name in names
    ]
    return tuple(sorted(rows, key=lambda row: -max(row.before_ms or 0, row.after_ms or 0)))[:MOST_LAYERS]


_APPENDED = re.compile(r"(/\w*Fusion\w*/?|_quant|_token_\d+|_nchwc|_nhwc)+$")
"""Suffixes that fusing before quantization appends to the names of layers."""


def _in_names_of(operators: Mapping[str, str], times: Times) -> Times:
    """Return times by the baseline's names, of layers that were fused and renamed since too."""
    found: Times = {}
    for name, (time_ms, kernel) in times.items():
        home = _home(name, operators)
        earlier, first = found.get(home, (0.0, kernel))
        found[home] = (earlier + time_ms, first)
    return found


def _home(name: str, operators: Mapping[str, str]) -> str:
    shorter = _APPENDED.sub("", name)
    return name if name in operators or shorter not in operators else shorter


def _by_name(found: Profile) -> Times:
    times: Times = {}
    for node in found.nodes:
        name = node.name if node.mapped else ""
        time_ms, kernel = times.get(name, (0.0, node.op_type))
        times[name] = (time_ms + node.time_ms, kernel)
    return times
