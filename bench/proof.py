"""The rate of models over the budget that a search calls proven: a simulation of the whole procedure.

    python bench/proof.py [--trials 2000] [--quick] [--only boxes]

Twenty candidates are chosen from on the search part; the slowest within budget is proved early, then a chain of
finalists, by the code of `onnxopt.search.proof`, with the limits of `onnxopt.search.acceptance` and the probabilities
of `onnxopt.measure.statistics`.
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
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import date
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from proof_cases import BUDGET, Case, Seen, Sure, bootstrapped, boxed, cases, counted, parts_of

import onnxopt
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Drop, Interval, wilson
from onnxopt.options.search import Goal
from onnxopt.search.acceptance import Acceptance
from onnxopt.search.limits.pressure import Late
from onnxopt.search.proof import proving
from onnxopt.search.proof.holdout import Evidence
from onnxopt.search.trial import Candidate, Trial, Verdict


def search_once(case: Case, bar: Acceptance, rng: np.random.Generator) -> tuple[str, float]:
    """Return how one search ends: the standing of the model that ships, and its true drop."""
    draw = {"rmse": bootstrapped, "boxes": boxed}.get(case.kind, counted)
    searched, held = (draw(case, count, rng) for count in parts_of(case.samples))
    made = [trial_of(index, searched(index)) for index in range(len(case.drops))]
    within = bar.finalists(made)
    trials = simulated(bar, made, leader=max(within, key=bar.rank, default=None), holdout=parts_of(case.samples)[1])

    def measured(_: object, __: object, trial: Trial, samples: int, *, early: bool = False) -> Evidence:
        nothing: Any = None
        drop = _drop(held(int(trial.candidate.name)))
        return Evidence(trial, nothing, nothing, nothing, drop, nothing, _latency(trial), samples)

    with (
        mock.patch.object(proving, "holdout_evidence", measured),
        mock.patch.object(proving, "timed_as_last", lambda trials, found: found),
    ):
        _, proofs = proving.prove_finalists(trials, proving.prove_first(trials))
    shipped = next((proof for proof in proofs if proof.accepted), None)
    return ("original", 0.0) if shipped is None else (shipped.standing, case.drops[int(shipped.candidate)])


def simulated(bar: Acceptance, made: Sequence[Trial], *, leader: Trial | None, holdout: int) -> Any:
    """Return a search as far as the proof looks at it, without a time limit."""
    ignored = SimpleNamespace(progress=_ignore, secured=_ignore, proved=_ignore)
    return SimpleNamespace(
        model=None,
        bar=bar,
        made=made,
        leader=leader,
        reserve=None,
        late=Late(),
        parts=SimpleNamespace(holdout=range(holdout)),
        settings=SimpleNamespace(hot=True),
        deadline=SimpleNamespace(left_s=lambda: np.inf, in_time=lambda make: make(), ending=nullcontext),
        observer=ignored,
        journal=ignored,
        prospect=lambda count, share: SimpleNamespace(possible=True),
        judge_on=_ignore,
    )


def _ignore(*_: object) -> None:
    pass


def trial_of(index: int, seen: Seen) -> Trial:
    verdict = Verdict.WITHIN if seen.value <= BUDGET + 1e-12 else Verdict.OVER_BUDGET
    return Trial(Candidate(str(index), ()), verdict, "", size_bytes=1, drop=_drop(seen), latency=_faster(index))


class SeenDrop(Drop):
    """A drop whose probability is computed when it is asked for."""

    sure: Sure

    def probability_within(self, budget: float) -> float:
        return self.sure()


def _drop(seen: Seen) -> Drop:
    draws = seen.mean + seen.spread * np.array([-1.0, 1.0])
    drop = SeenDrop(
        seen.value, Interval(seen.value, seen.value, seen.value), seen.count, None, None, None, False, draws
    )
    object.__setattr__(drop, "sure", seen.sure)
    return drop


def _latency(trial: Trial) -> Latency:
    assert trial.latency is not None
    return trial.latency


@cache
def _faster(index: int) -> Latency:
    speedup = 3.0 - 0.05 * index
    return Latency(1, 1, 1, 1, 1, 1, Interval(speedup, speedup, speedup), None, 1, Interval(1, 1, 1))


def row_of(case: Case, trials: int) -> dict[str, object]:
    bar, rng = Acceptance(Goal.LATENCY, BUDGET, 0.95, 1, "share"), np.random.default_rng(0)
    if case.kind not in ("labels", "agreement"):  # each finalist needs a bootstrap, of seconds where samples are many
        trials = max(trials // (16 if case.samples >= 5000 else 4), 1)
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
