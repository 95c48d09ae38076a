"""The rate of models over the budget that a search calls proven: a simulation of the whole procedure.

    python bench/proof.py [--trials 2000] [--quick] [--only boxes]

Twenty candidates are chosen from on the search part; at most three finalists are tried on the hold-out part, in the
order of `onnxopt.search.proof.attempts`, with the limits of `onnxopt.search.acceptance` and the probabilities of
`onnxopt.measure.statistics`.
The candidates have known true drops around a budget of one point. Of a metric against labels, samples flip both ways
(`differ`: how many differ at all); of an agreement with the baseline they flip one way; the score of a regression is
bootstrapped, and so is that of a detector whose objects are in one image of five and are lost together. `--only`
measures the cases of one kind, and keeps the others of today's record. It prints and stores, for each case, the share
of searches that end with a proven winner, with a proven winner that is over the budget (at most 5 %), and with a
likely one.
"""

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np

import onnxopt
from onnxopt.measure.accuracy import drop as drop_of
from onnxopt.measure.accuracy import evaluation_of
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.latency import Latency
from onnxopt.measure.metrics.regression import Rmse
from onnxopt.measure.metrics.score import Score, mean_of
from onnxopt.measure.statistics import Drop, Interval, flip_draws, probability_within, share_draws, wilson
from onnxopt.options.search import Goal
from onnxopt.search.acceptance import Acceptance
from onnxopt.search.parts import CALIBRATION_MOST, CALIBRATION_SHARE, SEARCH_MOST, SEARCH_SHARE
from onnxopt.search.proof.attempts import best_attempts, chance_by_trial
from onnxopt.search.trial import Candidate, Trial, Verdict

Sure = Callable[[], float]
BUDGET, CANDIDATES = 0.01, 20
SIZES = (200, 500, 1000, 5000)
POINTS = (0.0, 0.25, 0.5, 0.75, 0.99, 1.01, 1.25, 1.5, 2.0, 3.0)
"""True drops in points that all candidates of a case share: at 1.01 each of them is just over the budget."""
GRADED = "0..3, the faster the more"
DISCORDANCE = (0.01, 0.04)
"""Shares of samples that differ from the baseline; `--measure` shows them for trained models."""


@dataclass(frozen=True)
class Case:
    """One cell of the table.

    Attributes:
        kind: `labels`, `agreement`, `rmse` or `boxes`.
        samples: of all three parts.
        drops: true ones of the candidates, the fastest first.
        discordance: share of samples that differ from the baseline, with labels.
    """

    kind: str
    samples: int
    drops: tuple[float, ...]
    discordance: float
    name: str


def parts_of(samples: int) -> tuple[int, int]:
    """Return how many samples a search chooses on and proves on."""
    used = min(int(samples * CALIBRATION_SHARE), CALIBRATION_MOST)
    search = min(int((samples - used) * SEARCH_SHARE), SEARCH_MOST)
    return search, samples - used - search


@cache
def probability(kind: str, better: int, worse: int, count: int) -> float:
    draws = share_draws(worse, count, seed=0) if kind == "agreement" else flip_draws(better, worse, count, seed=0)
    return probability_within(BUDGET, draws, count)


def counted(case: Case, count: int, rng: np.random.Generator) -> Callable[[int], tuple[float, Sure]]:
    """Return a draw of one part: the measured drop of a candidate, and how sure it is that the true one is inside."""
    drops = np.asarray(case.drops)
    if case.kind == "agreement":
        worse = rng.binomial(count, drops)
        better = np.zeros_like(worse)
    else:
        up = np.maximum((case.discordance + drops) / 2, drops)
        down = np.maximum((case.discordance - drops) / 2, 0)
        better, worse, _ = rng.multinomial(count, np.stack([down, up, 1 - up - down], axis=-1)).T

    def of(index: int) -> tuple[float, Sure]:
        flips = int(better[index]), int(worse[index])
        return (flips[1] - flips[0]) / count, lambda: probability(case.kind, *flips, count)

    return of


def bootstrapped(case: Case, count: int, rng: np.random.Generator) -> Callable[[int], tuple[float, Sure]]:
    """Return the same for an RMSE of one, whose candidates add errors; heavy tails, as real errors have."""
    metric = Rmse()
    error = rng.standard_t(5, count)
    error /= np.sqrt(5 / 3)

    def of(index: int) -> tuple[float, Sure]:
        added = np.sqrt((1 + case.drops[index]) ** 2 - 1) * rng.standard_normal(count)
        rows = [np.square(values)[:, None] for values in (error, error + added)]
        before, after = (metric.value(one) for one in rows)
        # A bootstrap takes long, and only finalists need one.
        return after - before, lambda: drop_of(*(evaluation_of(metric, one, 0) for one in rows)).probability_within(
            BUDGET
        )

    return of


@dataclass(frozen=True)
class Found(Score):
    """The share of objects found: rows of the number found and of the number there, most of them of no object."""

    name: str = "found"
    output: str | None = None
    unit = "share"
    bounded = True
    relative = True
    most_lost = 1.0

    def values(self, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
        found, there = mean_of(rows, counts).T
        return np.divide(found, there, out=np.full(len(counts), np.nan), where=there > 0)

    def telling(self, rows: np.ndarray) -> int:
        there = rows[:, 1]
        return round(float(there.sum() ** 2 / (there**2).sum()))


WITH_OBJECTS, MOST_OBJECTS = 0.2, 5
"""Share of images with objects, and the most in one of them."""


def boxed(case: Case, count: int, rng: np.random.Generator) -> Callable[[int], tuple[float, Sure]]:
    """Return the same for a detector that loses all objects of an image or none."""
    metric = Found()
    there = np.where(rng.random(count) < WITH_OBJECTS, rng.integers(1, MOST_OBJECTS + 1, count), 0)
    there[0] = 1  # without any, a search does not begin

    def of(index: int) -> tuple[float, Sure]:
        found = np.where(rng.random(count) < case.drops[index], 0, there)
        rows = [np.stack([some, there], axis=-1).astype(np.float64) for some in (there, found)]
        before, after = (metric.value(one) for one in rows)
        return before - after, lambda: drop_of(*(evaluation_of(metric, one, 0) for one in rows)).probability_within(
            BUDGET
        )

    return of


def search_once(case: Case, bar: Acceptance, rng: np.random.Generator) -> tuple[str, float]:
    """Return how one search ends: the standing of the model that ships, and its true drop."""
    draw = {"rmse": bootstrapped, "boxes": boxed}.get(case.kind, counted)
    searched, held = (draw(case, count, rng) for count in parts_of(case.samples))
    trials = []
    for index in range(len(case.drops)):
        value = searched(index)[0]
        verdict = Verdict.WITHIN if value <= BUDGET + 1e-12 else Verdict.OVER_BUDGET
        trials.append(
            Trial(Candidate(str(index), ()), verdict, "", size_bytes=1, drop=_drop(value), latency=_faster(index))
        )
    likely = None
    chance = chance_by_trial(bar, parts_of(case.samples)[1])
    for attempt, trial in enumerate(best_attempts(bar, bar.finalists(trials), chance=chance)):
        index = int(trial.candidate.name)
        value, sure = held(index)
        standing = bar.standing(sure(), attempt, None) if value <= BUDGET + 1e-12 else ""
        if standing == "proven":
            return standing, case.drops[index]
        if standing == "likely" and likely is None:
            likely = case.drops[index]
    return ("original", 0.0) if likely is None else ("likely", likely)


def _drop(value: float) -> Drop:
    return Drop(value, Interval(value, value, value), 1, None, None, None, False, np.empty(0))


@cache
def _faster(index: int) -> Latency:
    speedup = 3.0 - 0.05 * index
    return Latency(1, 1, 1, 1, 1, 1, Interval(speedup, speedup, speedup), None, 1, Interval(1, 1, 1))


def cases(quick: bool) -> list[Case]:
    graded = tuple(np.linspace(0.03, 0.0, CANDIDATES).tolist())
    found = []
    for samples in SIZES:
        for point in POINTS:
            same, name = (point / 100,) * CANDIDATES, f"{point:g}"
            found.append(Case("agreement", samples, same, 0.0, name))
            found += [Case("labels", samples, same, share, name) for share in DISCORDANCE]
        found.append(Case("agreement", samples, graded, 0.0, GRADED))
        found += [Case("labels", samples, graded, share, GRADED) for share in DISCORDANCE]
    for samples in (200, 1000):
        found += [
            Case("rmse", samples, (point / 100,) * CANDIDATES, 0.0, f"{point:g}") for point in (0.0, 0.99, 1.01, 2.0)
        ]
    for samples in (500, 5000):
        found += [
            Case("boxes", samples, (point / 100,) * CANDIDATES, 0.0, f"{point:g}") for point in (0.0, 0.5, 1.01, 2.0)
        ]
    return [case for case in found if not quick or (case.samples == 1000 and case.name in ("0", "1.01", GRADED))]


def row_of(case: Case, trials: int) -> dict[str, object]:
    bar, rng = Acceptance(Goal.LATENCY, BUDGET, 0.95, 1, "share"), np.random.default_rng(0)
    trials = trials if case.kind in ("labels", "agreement") else max(trials // 4, 1)
    ends = [search_once(case, bar, rng) for _ in range(trials)]
    proven = [drop for standing, drop in ends if standing == "proven"]
    likely = [drop for standing, drop in ends if standing == "likely"]
    return {
        "metric": case.kind,
        "samples": case.samples,
        "hold-out": parts_of(case.samples)[1],
        "true drop, points": case.name,
        "differ": case.discordance or None,
        "trials": trials,
        "proven": len(proven) / trials,
        "proven, over budget": sum(drop > BUDGET + 1e-9 for drop in proven) / trials,
        "refused": 1 - (len(proven) + len(likely)) / trials,
        "likely": len(likely) / trials,
        "likely, over budget": sum(drop > BUDGET + 1e-9 for drop in likely) / trials,
    }


def discordance() -> dict[str, float]:
    """Return the share of samples on which an INT8 file of a trained model differs in being right."""
    from pack import cases as trained

    shares = {}
    for case in trained(("cifar10_jpeg_resnet20", "cifar10_jpeg_resnet56", "tf_kws_ds_cnn_l", "tf_kws_dnn_m")):
        context = onnxopt.Context(onnxopt.target_of("auto"), case.calibration())
        made = onnxopt.Pipeline(onnxopt.parse_passes("simplify,quantize-static")).run(onnxopt.load(case.path), context)
        metric = onnxopt.metric_of("top1", label_offset=case.label_offset)
        judge = LabelJudge(case.path, case.test().take(1000), onnxopt.Runtime(), metric)
        found = judge.drop(judge.evaluate(made.model))
        shares[case.name] = ((found.better or 0) + (found.worse or 0)) / found.n
        print(f"{case.name}: {100 * shares[case.name]:.1f} % of {found.n} samples differ")
    return shares


def shown(rows: Sequence[dict[str, object]]) -> str:
    titles = list(rows[0])
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        cells = [f"{100 * v:.1f} %" if isinstance(v, float) else "" if v is None else str(v) for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="a few cases only")
    parser.add_argument("--measure", action="store_true", help="measure too how many samples differ for trained models")
    parser.add_argument("--only", choices=["labels", "agreement", "rmse", "boxes"], help="cases of this kind alone")
    arguments = parser.parse_args()
    measured = discordance() if arguments.measure else None
    path = Path(__file__).parent / "results" / f"{date.today().isoformat()}-proof.json"
    rows = []
    if arguments.only and path.exists():
        stored = json.loads(path.read_text())
        measured = measured or stored["differ"]
        rows = [row for row in stored["rows"] if row["metric"] != arguments.only]
    for case in cases(arguments.quick):
        if arguments.only not in (None, case.kind):
            continue
        rows.append(row_of(case, arguments.trials))
        print(json.dumps(rows[-1]), flush=True)
    print(shown(rows))
    worst = max(rows, key=lambda row: float(str(row["proven, over budget"])))
    share, count = float(str(worst["proven, over budget"])), int(str(worst["trials"]))
    bounds = wilson(round(share * count), count)
    print(
        f"the most often that a proven model is over the budget: {100 * share:.1f} % of searches "
        f"[{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"
    )
    if not arguments.quick:
        about = {"date": date.today().isoformat(), "python": platform.python_version(), "numpy": np.__version__}
        path.write_text(
            json.dumps({**about, "budget": BUDGET, "confidence": 0.95, "differ": measured, "rows": rows}, indent=1)
            + "\n"
        )
        print(path)


if __name__ == "__main__":
    main()
