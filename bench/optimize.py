"""`onnxopt optimize` on the developer pack, beside quantization alone, ONNX Runtime's own quantizer, and OpenVINO.

    python bench/optimize.py [NAME_PART ...] [--prune [--train]] [--time-limit 300] [--openvino PYTHON --nncf PYTHON]
    python bench/optimize.py --table

Saves every figure with the processor and the versions as JSON under `bench/results/` after each model; models that are
in it are left out, so that a run can be continued. `--table` prints it as Markdown. Accuracy is measured on all test
samples, search and hold-out part together; nothing of them is calibrated on. With `--train` models learn from up
to 50,000 training samples, which then calibrate too. `quantized` is the best of the same search
that neither prunes nor factorizes. `again` is the baseline beside itself: a clock that is right finds no difference.
OpenVINO runs in a separate process, and with `--openvino` in a separate environment. Where the clock is unsure, all
models are timed again, twice at most.
"""

import argparse
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx_ir as ir
from optimize_table import behind, reduces, summary, table
from pack import Case, cases, judging_of, training_of
from peers import PEERS
from quantize import make

from onnxopt import model_file
from onnxopt.errors import OnnxoptError, first_line
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.latency import Latency, drawn_inputs, measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.statistics import Drop
from onnxopt.measure.tasks.named import metric_of
from onnxopt.passes.fuse_attention import attends
from onnxopt.pipeline import Context, Pipeline
from onnxopt.search.budget import Budget
from onnxopt.search.journal.journal import Journal
from onnxopt.search.observer import NullObserver
from onnxopt.search.optimize import search
from onnxopt.search.parts import split_parts
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate, Proof, SearchResult, Trial, Verdict
from onnxopt.target import target_of

HERE = Path(__file__).parent
OUTSIDE_SAMPLES = 500
TRAINING_MOST = 50_000
ATTEMPTS = 3
WIDE = 32
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Narrator(NullObserver):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def finished(self, trial: Trial) -> None:
        speed = trial.latency.speedup.value if trial.latency and trial.latency.speedup else float("nan")
        drop = trial.drop.value if trial.drop else float("nan")
        self.lines.append(
            f"{trial.candidate.name:28} {trial.verdict.value:14} {speed:5.2f}x drop {drop:7.4f}  {trial.reason}"
        )
        print(f"    {self.lines[-1]}", flush=True)


def measure(case: Case, settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    model = model_file.load(case.path)
    test, calibration = case.test(), case.calibration()
    if settings.train:
        test, calibration = judging_of(case), training_of(case)
        calibration = calibration.take(min(TRAINING_MOST, len(calibration)))
    metric, runtime = metric_of("top1", label_offset=case.label_offset), settings.runtime
    parts = split_parts(test, calibration, seed=0)
    narrator, start = Narrator(), time.perf_counter()
    with TemporaryDirectory(prefix="onnxopt-search-") as folder:
        # As in a run folder: a finalist is read again for its proof, not trained again.
        journal = Journal(Path(folder) / "journal.jsonl", {"model": case.name})
        result = search(model, parts, metric, settings, narrator, journal=journal)
    search_s = time.perf_counter() - start
    models: dict[str, Any] = {"baseline": model, "onnxopt": result.model, "again": model}
    alone = quantization_alone(result)
    if alone is not None:
        context = Context(target_of(settings.target), parts.calibration)
        models["quantized"] = Pipeline(alone.passes).run(model, context).model
    failures = {}
    for name in PEERS:
        try:
            models[name] = PEERS[name](case.path, case.calibration())
        except Exception as error:  # a peer may fail in any way
            failures[name] = f"{type(error).__name__}: {first_line(error)}"[:160]
    judge = LabelJudge(model, test, runtime, metric)
    inputs = drawn_inputs(test, 1)
    for name in list(models):
        try:
            measure_latency({name: models[name]}, inputs, runtime, seconds=0.01, min_rounds=1, epochs=1)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {first_line(error)}"[:160]
            del models[name]
    timed = _timed(models, inputs, runtime, options.seconds)
    rows = {name: row(judge, name, built, timed) for name, built in models.items()}
    winner = result.winner
    return {
        "model": case.name,
        "n": len(test),
        "baseline_accuracy": judge.baseline().value,
        "wide": wide(model),
        "allowed_drop": result.allowed_drop,
        "winner": None if winner is None else winner.candidate.name,
        "passes": None if winner is None else [str(each) for each in winner.candidate.passes],
        "predicted_share": None if winner is None else winner.candidate.predicted,
        "mixes": {
            trial.candidate.name: {"predicted": trial.candidate.predicted, "measured": 1 / speed_of(trial)}
            for trial in result.trials
            if trial.candidate.predicted and speed_of(trial)
        },
        "done": None if winner is None else done(winner),
        "quantized": None if alone is None else alone.name,
        "reason": result.reason,
        "stopped": result.stopped,
        "proofs": [proved(each) for each in result.proofs],
        "unproved": list(result.unproved),
        "trials": len(result.trials),
        "narration": narrator.lines,
        "search_s": round(search_s, 1),
        "rows": rows,
        "failures": failures,
        "behind": behind(rows, result.allowed_drop),
        "outside": outside(case, options) if options.openvino and options.nncf else None,
        "load": round(os.getloadavg()[0], 1),
        "environment": environment(runtime),
    }


def wide(model: ir.Model) -> bool:
    """Return whether a convolutional network or a transformer has 32 channels or more in every layer but the last."""
    layers = [layer for layer in anatomy_of(model).layers if layer.op_type in WEIGHTED and layer.output_shape]
    channels = [(n.output_shape or ())[1 if n.op_type.startswith("Conv") else -1] for n in layers][:-1]
    of_kind = attends(model) or any(layer.op_type == "Conv" for layer in layers)
    return of_kind and min(channels, default=0) >= WIDE


def _timed(models: dict[str, Any], inputs: Sequence[Any], runtime: Runtime, seconds: float) -> dict[str, Latency]:
    """Time all models side by side; again, and for longer, while the clock is unsure of one."""
    for attempt in range(ATTEMPTS):
        timed = measure_latency(models, inputs, runtime, seconds=seconds * (attempt + 1))
        if not any(one.unsure for one in timed.values()):
            break
    return timed


def quantization_alone(result: SearchResult) -> Candidate | None:
    """Return the fastest candidate that neither prunes nor factorizes, and did not fail on the hold-out part."""
    fits = (Verdict.WITHIN, Verdict.WINNER)
    plain = [t for t in result.trials if t.verdict in fits and not reduces(_names(t.candidate)) and speed_of(t)]
    return max(plain, key=speed_of).candidate if plain else None


def _names(candidate: Candidate) -> list[str]:
    return [each.name for each in candidate.passes]


def speed_of(trial: Trial) -> float:
    return trial.latency.speedup.value if trial.latency and trial.latency.speedup else 0.0


def done(trial: Trial) -> dict[str, dict[str, int]]:
    """Return how often each pass did what, and left alone why."""
    return {
        step.spec.name: dict(
            Counter(
                [" ".join(edit.action.split()[:2]) for edit in step.edits] + [f"left: {s.reason}" for s in step.skipped]
            ).most_common(8)
        )
        for step in trial.steps
    }


def outside(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Return what OpenVINO makes of the model that NNCF quantized, or why it does not."""
    folder = options.work / case.name
    made = make(case, "nncf", folder, options.nncf)
    if "failure" in made:
        return made
    test = case.test()
    few = test.take(min(OUTSIDE_SAMPLES, len(test))).with_batch_size(1)
    samples, labels = folder / "test.npz", folder / "labels.npy"
    np.savez(samples, **{f"{i}/{name}": array for i, feeds in enumerate(few) for name, array in feeds.items()})
    np.save(labels, few.labels + case.label_offset)
    command = [options.openvino, str(HERE / "openvino_int8.py"), str(case.path), str(folder / "nncf.onnx")]
    command += [str(samples), str(labels), "--seconds", str(options.seconds)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if ran.returncode:
        return {"failure": (ran.stderr.strip().splitlines() or ["?"])[-1][:160]}
    return dict(json.loads(ran.stdout))


def row(judge: LabelJudge, name: str, built: Any, timed: Any) -> dict[str, Any]:
    drop: Drop | None = None
    if name != "baseline":
        drop = judge.drop(judge.evaluate(built))
    size = len(built) if isinstance(built, bytes) else model_file.size_bytes(built)
    speedup = timed[name].speedup
    return {
        "drop": None if drop is None else drop.value,
        "drop_interval": None if drop is None else [drop.interval.low, drop.interval.high],
        "speedup": None
        if speedup is None
        else {"low": speedup.low, "value": speedup.value, "high": speedup.high, "level": speedup.level},
        "unsure": timed[name].unsure,
        "p50_ms": timed[name].p50_ms,
        "size_bytes": size,
    }


def proved(proof: Proof) -> dict[str, Any]:
    drop = {"n": proof.drop.n, "drop": proof.drop.value, "confidence": proof.confidence, "asked": proof.asked}
    return {"candidate": proof.candidate, "accepted": proof.accepted, "standing": proof.standing, **drop}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of model names")
    parser.add_argument("--max-drop", default="1pp")
    parser.add_argument("--prune", action="store_true", help="prune and factorize too")
    parser.add_argument("--train", action="store_true", help="let pruned models learn from the original")
    parser.add_argument("--time-limit", type=float, help="seconds after which a search begins nothing more")
    parser.add_argument("--seconds", type=float, default=8.0, help="of latency measurement per model")
    parser.add_argument("--openvino", help="Python with openvino and onnxruntime")
    parser.add_argument("--nncf", help="Python with nncf and onnx")
    parser.add_argument("--work", type=Path, default=HERE / "build" / "quantize", help="folder of the peers' files")
    parser.add_argument("--table", action="store_true", help="print the record, measure nothing")
    parser.add_argument("--out", type=Path, help="the record; by default in results/, with -train of models that learn")
    options = parser.parse_args()
    options.out = options.out or HERE / "results" / f"{date.today()}-optimize{'-train' * options.train}.json"
    models: list[dict[str, Any]] = json.loads(options.out.read_text())["models"] if options.out.exists() else []
    if options.table:
        print(table(models))
        return 0
    settings = Settings(
        budget=Budget.parse(options.max_drop),
        prune=options.prune,
        train=options.train,
        time_limit_s=options.time_limit,
    )
    about = {key: getattr(options, key) for key in ("max_drop", "prune", "train", "time_limit", "seconds")}
    for case in cases(options.only):
        if any(m["model"] == case.name for m in models):
            continue
        print(case.name, flush=True)
        try:
            found = measure(case, settings, options)
        except OnnxoptError as error:
            print(f"    {error}", flush=True)
            continue
        models.append(found)
        options.out.parent.mkdir(exist_ok=True)
        record = {"settings": about, "summary": summary(models), "models": models}
        options.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
        print(f"    {table([found]).splitlines()[2]} behind: {found['behind']}", flush=True)
    print(table(models))
    said = summary(models)
    print(json.dumps(said, indent=1))
    return 1 if said["over_budget"] or said["slower_than_fp32"] or said["behind"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
