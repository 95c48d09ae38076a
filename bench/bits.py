"""Bits chosen per matrix beside one form for all: encoders at four shapes, with no more loss than dynamic INT8.

    python bench/bits.py [--only sst2 bert-2] [--seconds 10]

For each shape (texts x tokens) the loss of dynamic INT8 for all matrices is the budget. As in a search, mixes of the
integer program are tried, and then one form for all matrices in the graph of the mixes; the fastest within budget as
called is the choice. It is timed beside 4 bits and dynamic INT8 for all matrices, each in the simplified graph, and,
where the graph of the mixes has fused attention, beside dynamic INT8 in that graph: faster beyond doubt, equal, slower
beyond doubt, or "the same form" where it is dynamic INT8 for all itself, in either graph, with one scale or more. The
loss is that of held-out samples: the error of the outputs over their variance, and the accuracy where there are labels.
BERT-like encoders have weights from a seed. Saves the verdicts as JSON under `bench/results/`.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from attention import Layer
from pack import ROOT, Case, cases
from torch import Tensor, nn

from onnxopt import model_file
from onnxopt.catalog import format_pass, format_passes
from onnxopt.measure.latency import measure_latency
from onnxopt.measure.output_error import OutputError
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.options.search import Goal
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.samples import Samples, open_samples
from onnxopt.search.losses import Base, MeasuredLosses
from onnxopt.search.mix.bases import BASE
from onnxopt.search.mix.bits import FORMS, bit_tables
from onnxopt.search.mix.choice import Outcome, try_forms
from onnxopt.search.mix.cost_tables import CostTables
from onnxopt.search.mix.layer_times import LayerTimes
from onnxopt.search.mix.mixer import Mixer
from onnxopt.search.trial import Candidate
from onnxopt.target import target_of

RESULTS = Path(__file__).parent / "results"
SHAPES = ((1, 8), (1, 32), (1, 128), (8, 32))
INT8 = ("dynamic INT8", "dynamic INT8, one scale")
BUDGET, IN_ITS_GRAPH = "dynamic INT8", "dynamic INT8, fused attention"
WIDTHS: Mapping[int, int] = {2: 192, 6: 384, 12: 192}
"""Width of a BERT-like encoder by its number of layers."""
VOCABULARY, LONGEST = 8000, 128
ROUNDING = 1.001
"""Ratio of losses that are equal: fused attention computes the same in another order."""


class Encoder(nn.Module):
    """Embeddings of tokens and places, and layers of attention, as in BERT."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(LONGEST, width)
        self.norm, self.layers = nn.LayerNorm(width), nn.Sequential(*(Layer(width, width // 32) for _ in range(layers)))

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])[None]
        return self.layers(self.norm(self.words(ids) + self.places(places)))


@dataclass(frozen=True)
class Measured:
    """A model with samples to choose by and others to judge by."""

    name: str
    model: ir.Model
    calibration: Samples
    test: Samples
    longest: int
    labels: np.ndarray | None = None

    def feeds(self, batch: int, tokens: int) -> list[dict[str, np.ndarray]]:
        rng, made = np.random.default_rng(2), []
        for _ in range(8):
            ids = rng.integers(3, VOCABULARY, (batch, min(tokens, self.longest)))
            names = [spec.name for spec in model_file.signature_of(self.model).inputs]
            made.append({name: np.ones_like(ids) if "mask" in name else ids for name in names})
        return made


def encoder(layers: int, folder: Path) -> Measured:
    """Return a BERT-like encoder with weights from a seed."""
    torch.manual_seed(0)
    path, net = folder / f"bert-{layers}.onnx", Encoder(layers, WIDTHS[layers]).eval()
    names = {"input_ids": {0: "batch", 1: "tokens"}, "hidden": {0: "batch", 1: "tokens"}}
    torch.onnx.export(net, (torch.ones(2, 9, dtype=torch.int64),), str(path), dynamo=False, opset_version=17,
                      input_names=["input_ids"], output_names=["hidden"], dynamic_axes=names)  # fmt: skip
    model, rng = model_file.load(path), np.random.default_rng(1)
    some, others = (
        open_samples({"input_ids": rng.integers(3, VOCABULARY, (count, 32))}, model_file.signature_of(model))
        for count in (32, 64)
    )
    return Measured(path.stem, model, some, others, LONGEST)


def classifier(case: Case) -> Measured:
    """Return the sentence classifier of the pack."""
    longest = int(json.loads((ROOT / "data" / "sst2_vocab.json").read_text())["max_len"])
    test = case.test().with_batch_size(1)
    return Measured(
        case.name, model_file.load(case.path), case.calibration().with_batch_size(1), test, longest, test.labels
    )


def measured(only: Sequence[str], folder: Path) -> Iterator[Measured]:
    for layers in WIDTHS:
        if not only or f"bert-{layers}" in only:
            yield encoder(layers, folder)
    if not only or "sst2" in only:
        yield from map(classifier, cases(["sst2"]))


class Remembered:
    """Losses, measured once for all shapes."""

    def __init__(self, model: ir.Model, context: Context) -> None:
        self._ask, self._known = MeasuredLosses(model, context), dict[str, float]()

    def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        found = []
        for spec in specs:
            key = f"{format_passes(base)} {format_pass(spec)}"
            if key not in self._known:
                self._known[key] = self._ask(base, [spec])[0]
            found.append(self._known[key])
        return found


def accuracy(one: Measured, model: ir.Model) -> float | None:
    """Return the share of right answers in percent; None without labels."""
    if one.labels is None:
        return None
    session = Session(model, Runtime())
    answers = np.concatenate([np.asarray(session.run(feeds)[0]).argmax(-1) for feeds in one.test])
    return round(100 * float((answers == one.labels).mean()), 2)


class Forms:
    """Models by pipeline, each built and judged once for all shapes."""

    def __init__(self, one: Measured) -> None:
        self._one, self._context = one, Context(target_of("auto"), one.calibration)
        self._error = OutputError(one.model, one.test)
        self._made, self._lost = dict[str, ir.Model](), dict[str, float]()

    def model(self, passes: Base) -> ir.Model:
        name = format_passes(passes)
        if name not in self._made:
            self._made[name] = Pipeline(passes).run(self._one.model, self._context).model
        return self._made[name]

    def loss(self, passes: Base) -> float:
        name = format_passes(passes)
        if name not in self._lost:
            self._lost[name] = self._error.of(self.model(passes))
        return self._lost[name]

    def figures(self, passes: Base) -> dict[str, Any]:
        made = self.model(passes)
        return {
            "passes": format_passes(passes), "loss": self.loss(passes), "size_bytes": model_file.size_bytes(made),
            "accuracy": accuracy(self._one, made),
        }  # fmt: skip


Clock = Callable[[Mapping[str, ir.Model]], Sequence[Mapping[str, float]]]


def chosen(forms: Forms, tables: CostTables, clock: Clock) -> tuple[Base, dict[str, float]]:
    """Return the fastest form as called that loses no more than dynamic INT8 for all, and the times of these."""
    most, good = forms.loss((*BASE, FORMS[BUDGET])), dict[str, Base]()

    def attempt(candidate: Candidate) -> Outcome:
        lost = forms.loss(candidate.passes)
        if lost <= ROUNDING * most:
            good[format_passes(candidate.passes)] = candidate.passes
        return Outcome(lost <= ROUNDING * most, lost / most)

    try_forms(Mixer(lambda: tables, tables.problem.loss(tables.problem.whole(BUDGET))), attempt)
    if not good:
        return (*tables.base, FORMS[BUDGET]), {}
    times = dict(clock({name: forms.model(passes) for name, passes in good.items()})[0])
    return good[min(times, key=lambda name: times[name])], times


def row_of(one: Measured, shape: tuple[int, int], tables: CostTables, forms: Forms, seconds: float) -> dict[str, Any]:
    """Return the choice at one shape, and its verdict beside each uniform form."""
    passes, tried = chosen(forms, tables, partial(called, one.feeds(*shape), seconds))
    rivals = {form: (*BASE, FORMS[form]) for form in ("4 bits", BUDGET)}
    if tables.base != BASE:
        rivals[IN_ITS_GRAPH] = (*tables.base, FORMS[BUDGET])
    models = {"chosen": forms.model(passes), **{name: forms.model(rival) for name, rival in rivals.items()}}
    timed = measure_latency(models, one.feeds(*shape), Runtime(), seconds=len(models) * seconds)
    beside, uniform = {}, [(*base, FORMS[form]) for base in (BASE, tables.base) for form in INT8]
    for name, rival in rivals.items():
        speed = timed[name].speedup
        same = name != "4 bits" and passes in uniform
        # The ratio is that of the rival to the choice.
        ratio = speed and [round(1 / number, 3) for number in (speed.value, speed.high, speed.low)]
        found = {"speedup": ratio, "unsure": timed[name].unsure, "verdict": verdict(ratio, same=same)}
        beside[name] = {**found, **forms.figures(rival)}
    return {
        "model": one.name, "shape": list(shape), "base": format_passes(tables.base), **forms.figures(passes),
        "ms": {name: found.p50_ms for name, found in timed.items()}, "beside": beside, "tried": tried,
    }  # fmt: skip


def verdict(ratio: Sequence[float] | None, *, same: bool) -> str:
    if same:
        return "the same form"
    if ratio is None:
        return "unsure"
    _, low, high = ratio
    return "faster" if low > 1 else "slower" if high < 1 else "equal"


def called(
    feeds: Sequence[Mapping[str, np.ndarray]], seconds: float, models: Mapping[str, ir.Model]
) -> list[dict[str, float]]:
    """Return the time of each model at one shape, as called."""
    found = measure_latency(models, feeds, Runtime(), seconds=seconds)
    return [{name: latency.p50_ms for name, latency in found.items()}]


def rows_of(
    one: Measured, shapes: Sequence[tuple[int, int]], seconds: float, loss_seconds: float
) -> Iterator[dict[str, Any]]:
    context = Context(target_of("auto"), one.calibration)
    losses, forms = Remembered(one.model, context), Forms(one)
    for shape in shapes:
        inputs = [(one.feeds(*shape)[0], 1.0)]
        tables = bit_tables(
            one.model, context, inputs, goal=Goal.LATENCY, times=LayerTimes(None, Runtime()),
            clock=partial(called, one.feeds(*shape), seconds), losses=losses, seconds=loss_seconds,
        )  # fmt: skip
        yield row_of(one, shape, tables, forms, seconds)


def beaten(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the number of shapes at which the choice is faster than each uniform form, by model.

    A choice that is dynamic INT8 for all matrices itself, with fused attention or without, is equal to it.
    """
    found = dict[str, dict[str, int]]()
    for row in rows:
        mine = found.setdefault(row["model"], {})
        for name, one in row["beside"].items():
            mine[name] = mine.get(name, 0) + (one["verdict"] == "faster")
    return found


def shape_of(text: str) -> tuple[int, int]:
    """Return the number of texts and of tokens that `text` names."""
    batch, tokens = map(int, text.split("x"))
    return batch, tokens


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="sst2, bert-2, bert-6, bert-12")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing per model")
    parser.add_argument("--shapes", nargs="*", default=SHAPES, type=shape_of, help="texts x tokens, such as 1x128")
    parser.add_argument("--loss-seconds", type=float, default=60.0, help="for the losses of matrices in one form")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-bits.json")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        for one in measured(given.only, Path(folder)):
            for row in rows_of(one, given.shapes, given.seconds, given.loss_seconds):
                rows.append(row)
                verdicts = (f"{name}: {found['speedup']} {found['verdict']}" for name, found in row["beside"].items())
                print(row["model"], row["shape"], *verdicts, sep="  ", flush=True)
                record = {"environment": environment(), "rows": rows, "faster": beaten(rows)}
                record |= {"seconds": given.seconds, "loss_seconds": given.loss_seconds}
                given.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
    for name, counts in beaten(rows).items():
        for rival, count in counts.items():
            print(f"{name}: faster than {rival} at {count} shapes, with no more loss than dynamic INT8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
