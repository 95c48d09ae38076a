"""Searches beside busy loops on every processor: is the winner as fast as stated?

    python bench/busy_search.py [--models cifar10_resnet20,tf_kws_ds_cnn_s,keras_mlperf_resnet8] [--seconds 20]

Each model is searched twice: beside a busy loop on every processor, and on the idle host. Then the loads end, and both
winners are timed beside the original for a long time. The speed-up that the busy search stated holds where its interval
and that of the long measurement overlap; a busy search may also find the clock unsure and keep the original. The idle
search must find the same or a faster one.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from pack import Case, cases

from onnxopt import model_file
from onnxopt.measure.latency import drawn_inputs, measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import metric_of
from onnxopt.search.optimize import search
from onnxopt.search.parts import split_parts
from onnxopt.search.settings import Settings
from onnxopt.search.trial import SearchResult

RESULTS = Path(__file__).parent / "results"
MODELS = "cifar10_resnet20,tf_kws_ds_cnn_s,keras_mlperf_resnet8"


@contextmanager
def busy() -> Iterator[None]:
    """Have a busy loop on every processor."""
    context = multiprocessing.get_context("fork")
    loops = [context.Process(target=_loop, args=(place,), daemon=True) for place in sorted(os.sched_getaffinity(0))]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.join()


def _loop(place: int) -> None:
    os.sched_setaffinity(0, {place})
    while True:
        pass


def measure(case: Case, seconds: float) -> dict[str, Any]:
    """Return what both searches said, and what is true."""
    model = model_file.load(case.path)
    parts = split_parts(case.test(), case.calibration(), seed=0)
    metric = metric_of("top1", label_offset=case.label_offset)
    found: dict[str, Any] = {"model": case.name}
    winners: dict[str, Any] = {"original": model}
    for name in ("busy", "idle"):
        began = time.perf_counter()
        if name == "busy":
            with busy():
                result = search(model, parts, metric, Settings())
        else:
            result = search(model, parts, metric, Settings())
        found[name] = {**_said(result), "seconds": round(time.perf_counter() - began, 1)}
        winners[name] = result.model
    timed = measure_latency(winners, drawn_inputs(parts.search, 1), Runtime(), seconds=seconds)
    for name in ("busy", "idle"):
        speedup, said = timed[name].speedup, found[name]["said"]
        found[name]["true"] = None if speedup is None else [speedup.low, speedup.value, speedup.high]
        if speedup is not None and said is not None:
            found[name]["holds"] = said[0] <= speedup.high and speedup.low <= said[2]
    return found


def _said(result: SearchResult) -> dict[str, Any]:
    proof = next((p for p in result.proofs if p.accepted), None)
    speedup = None if proof is None else proof.latency.speedup
    return {
        "winner": None if result.winner is None else result.winner.candidate.name,
        "reason": result.reason,
        "said": None if speedup is None else [speedup.low, speedup.value, speedup.high],
        "unsure": [t.candidate.name for t in result.trials if t.verdict.value == "unsure"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the long measurement on the idle host")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-busy-search.json")
    args = parser.parse_args()
    rows = []
    for case in cases(args.models.split(",")):
        rows.append(measure(case, args.seconds))
        print(json.dumps(rows[-1], indent=1), flush=True)
    record = {"date": str(date.today()), "environment": environment(Runtime()), "models": rows}
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
