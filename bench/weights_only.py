"""Weights of 8, 4 and 2 bits by every method, beside FP32, float16 and dynamic INT8: top-1, noise, size, time.

    python bench/weights_only.py [--only sst2 kws_dnn_m] [--seconds 20]

All forms of a model are built from 128 calibration samples, judged on its test data and timed as called in one
interleaved run with one thread, at batch 1 and at batch 16. Prints one table and saves it as JSON under
`bench/results/`. Exit code 1 when GPTQ's outputs have more noise than those of rounding to nearest.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from pack import Case, cases

from onnxopt import model_file
from onnxopt.catalog import parse
from onnxopt.measure.latency import drawn_inputs, measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of

RESULTS = Path(__file__).parent / "results"
FORMS = {
    **{
        f"{bits} bits, {m}": f"quantize-weights{{bits={bits},method={m}}}"
        for bits in (8, 4)
        for m in ("rtn", "hqq", "k-quant", "gptq")
    },
    "4 bits, k-quant, tables": "quantize-weights{bits=4,method=k-quant,tables=true}",
    **{f"2 bits, {m}, blocks of 64": f"quantize-weights{{bits=2,method={m},block=64}}" for m in ("k-quant", "gptq")},
    "form=dequantize": "quantize-weights{form=dequantize}",
    "dynamic INT8": "quantize-dynamic",
    "float16": "compute-float16",
}
CALIBRATION = 128
BATCHES = (1, 16)


def made(case: Case) -> dict[str, ir.Model]:
    context = Context(target_of("auto"), case.calibration().take(CALIBRATION))
    base = Pipeline(parse("simplify")).run(model_file.load(case.path), context).model
    return {"FP32": base, **{name: Pipeline(parse(spec)).run(base, context).model for name, spec in FORMS.items()}}


def measured(case: Case, seconds: float) -> list[dict[str, Any]]:
    models = made(case)
    sessions = {name: Session(model, Runtime()) for name, model in models.items()}
    test = case.test().with_batch_size(1)
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for feeds in test:
        for name, session in sessions.items():
            outputs[name].append(np.asarray(session.run(feeds)[0]).reshape(-1))
    timed = {
        batch: measure_latency(models, drawn_inputs(case.test(), batch), Runtime(), seconds=seconds)
        for batch in BATCHES
    }
    expected = np.stack(outputs["FP32"])
    rows = []
    for name, model in models.items():
        found = np.stack(outputs[name])
        noise = float(np.square(found - expected).sum())
        right = found.argmax(1) + case.label_offset == np.asarray(test.labels)
        row: dict[str, Any] = {
            "model": case.name,
            "form": name,
            "n": len(found),
            "top1": round(100 * float(right.mean()), 2),
            "sqnr_db": round(10 * float(np.log10(np.square(expected).sum() / noise)), 1) if noise else None,
            "size_ratio": round(model_file.size_bytes(model) / model_file.size_bytes(models["FP32"]), 3),
        }
        for batch, latencies in timed.items():
            speedup = latencies[name].speedup
            numbers = None if speedup is None else (speedup.value, speedup.low, speedup.high)
            row[f"speed_up_{batch}"] = numbers and [round(number, 3) for number in numbers]
            row[f"unsure_{batch}"] = latencies[name].unsure
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=["sst2", "kws_dnn_m"])
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing per model and batch size")
    options = parser.parse_args(arguments)
    rows = [row for case in cases(options.only) for row in measured(case, options.seconds)]
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
