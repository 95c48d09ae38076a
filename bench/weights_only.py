"""Weights of 4 and 8 bits by every method, beside FP32 and dynamic INT8: top-1, noise, size, time at batch 1.

    python bench/weights_only.py [--only sst2 kws_dnn_m] [--rounds 60]

All forms of a model are built from 128 calibration samples, judged on its test data and timed by turns in one process
with one thread. Prints one table and saves it as JSON under `bench/results/`. Exit code 1 when GPTQ's outputs have more
noise than those of rounding to nearest.
"""

import argparse
import json
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from pack import Case, cases

from onnxopt import model_file
from onnxopt.catalog import parse
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of

RESULTS = Path(__file__).parent / "results"
FORMS = {
    **{
        f"{bits} bits, {m}": f"quantize-weights{{bits={bits},method={m}}}"
        for bits in (8, 4)
        for m in ("rtn", "hqq", "gptq")
    },
    "form=dequantize": "quantize-weights{form=dequantize}",
    "dynamic INT8": "quantize-dynamic",
}
CALIBRATION = 128
REPEATS = 5


def made(case: Case) -> dict[str, ir.Model]:
    context = Context(target_of("auto"), case.calibration().take(CALIBRATION))
    base = Pipeline(parse("simplify")).run(model_file.load(case.path), context).model
    return {"FP32": base, **{name: Pipeline(parse(spec)).run(base, context).model for name, spec in FORMS.items()}}


def measured(case: Case, rounds: int) -> list[dict[str, Any]]:
    models = made(case)
    sessions = {name: Session(model, Runtime(threads=1)) for name, model in models.items()}
    test = case.test().with_batch_size(1)
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in models}
    seen = []
    for feeds in test:
        seen = [*seen, feeds] if len(seen) < REPEATS * 4 else seen
        for name, session in sessions.items():
            outputs[name].append(np.asarray(session.run(feeds)[0]).reshape(-1))
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for i in range(rounds):
        for name, session in sessions.items():
            times[name].append(_time(session, seen[i % len(seen)]))
    expected = np.stack(outputs["FP32"])
    rows = []
    for name, model in models.items():
        found = np.stack(outputs[name])
        noise = float(np.square(found - expected).sum())
        right = found.argmax(1) + case.label_offset == np.asarray(test.labels)
        rows.append(
            {
                "model": case.name,
                "form": name,
                "n": len(found),
                "top1": round(100 * float(right.mean()), 2),
                "sqnr_db": round(10 * float(np.log10(np.square(expected).sum() / noise)), 1) if noise else None,
                "size_ratio": round(model_file.size_bytes(model) / model_file.size_bytes(models["FP32"]), 3),
                "speed_up": round(float(np.median(np.array(times["FP32"]) / times[name])), 2),
            }
        )
    return rows


def _time(session: Session, feeds: Any) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        session.run(feeds)
        best = min(best, time.perf_counter() - start)
    return best


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=["sst2", "kws_dnn_m"])
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args(arguments)
    rows = [row for case in cases(options.only) for row in measured(case, options.rounds)]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    result = {"environment": environment(), "calibration": CALIBRATION, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{date.today()}-weights-only.json"
    path.write_text(json.dumps(result, indent=1, default=str) + "\n")
    noise = {(row["model"], row["form"]): row["sqnr_db"] for row in rows}
    worse = [k for k in noise if k[1].endswith("gptq") and noise[k] < noise[k[0], k[1].replace("gptq", "rtn")]]
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
