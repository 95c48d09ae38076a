"""The gain and the cost of a Dask cluster: real trials on processes of this machine, and a hundred simulated workers.

    python bench/cluster.py [--processes 1 2 4] [--workers 1 10 100] [--trials 16]

First, the same candidates of one model are built and scored in this process, then by workers that are processes of
their own on this machine. Second, workers that only wait (all in one process) show what scheduling itself costs:
every task takes a fixed time and needs a model that travels once to each worker. Prints tables and saves them as JSON
under `bench/results/`. Exit code 1 when a model travelled to a worker twice, or when the most workers are used less
than half of the time.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np

from onnxopt import model_file
from onnxopt.catalog import parse
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import signature_of
from onnxopt.pipeline import Context
from onnxopt.samples import open_samples
from onnxopt.search.parts import split_parts, typical_feeds
from onnxopt.search.trial import Candidate
from onnxopt.search.workers.cluster import Cluster, bench_resource
from onnxopt.search.workers.runner import LocalRunner, RemoteRunner, TaskInputs, judge_of
from onnxopt.target import target_of

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
TASK_S = 2.0
PER_WORKER = 5
MODEL_BYTES = 1_000_000
QUIET = {
    "distributed.admin.system-monitor.interval": "60s",
    "distributed.admin.tick.interval": "60s",
    "distributed.worker.profile.enabled": False,
}
"""Figures of a worker's process and machine, which simulated workers share."""
LEAST_USED = 0.5
"""Least share of the workers' time that must be spent in tasks."""


@contextmanager
def local_cluster(workers: int, *, processes: bool) -> Any:
    """Have a scheduler and workers on loopback, of which the first may time models."""
    worker = {
        "cls": distributed.Nanny if processes else distributed.Worker,
        "options": {"nthreads": 1, "dashboard_address": None, "host": "127.0.0.1"},
    }
    spec = {i: {**worker, "options": {**worker["options"]}} for i in range(workers)}
    if not processes:
        for each in spec.values():
            each["options"]["memory_limit"] = 0
    spec[0]["options"]["resources"] = {bench_resource(): 1}
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard_address": None, "host": "127.0.0.1", "port": 0}}
    with (
        dask.config.set(QUIET if not processes else {}),
        distributed.SpecCluster(workers=spec, scheduler=scheduler, silence_logs=50) as cluster,
        Cluster(cluster.scheduler_address) as connected,
    ):
        connected.client.wait_for_workers(workers)
        yield connected, cluster.workers


def pieces() -> tuple[Any, TaskInputs]:
    """Return a small model of this project and what trials of it need."""
    model = model_file.load(ROOT / "models" / "digits_resnet.onnx")
    parts = split_parts(open_samples("digits", signature_of(model)), None, 0)
    feeds = typical_feeds(parts.search, 1)
    return model, TaskInputs(parts.calibration, parts.search, None, "x86-vnni", Runtime(), 0, (feeds,), feeds)


def candidates(count: int) -> list[Candidate]:
    return [Candidate(f"c{i}", parse("simplify,quantize-static{placement=all}")) for i in range(count)]


def real_row(workers: int, trials: int) -> dict[str, Any]:
    """Build and score the same candidates here (no workers) or on a cluster of processes."""
    model, work = pieces()
    plan = candidates(trials)
    if not workers:
        judge = judge_of(model, work.search, work.metric, work.runtime, seed=work.seed)
        here = LocalRunner(model, Context(target_of(work.target), work.calibration, seed=work.seed), judge, work)
        start = time.perf_counter()
        for candidate in plan:
            here.score(candidate, here.build(candidate).model)
        return {"workers": 0, "trials": trials, "seconds": round(time.perf_counter() - start, 2)}
    with local_cluster(workers, processes=True) as (cluster, _):
        apart = RemoteRunner(model, work, cluster.anywhere, bench=cluster.bench, share=cluster.share)
        first = [Candidate(f"w{i}", plan[0].passes) for i in range(workers)]
        apart.announce(first)  # every worker imports what it needs
        for candidate in first:
            apart.build(candidate)
        start = time.perf_counter()
        apart.announce(plan)
        for candidate in plan:
            apart.score(candidate, apart.build(candidate).model)
        return {"workers": workers, "trials": trials, "seconds": round(time.perf_counter() - start, 2)}


def pause(model: bytes, seconds: float) -> tuple[str, int]:
    time.sleep(seconds)
    return distributed.get_worker().address, len(model)


def simulated_row(workers: int) -> dict[str, Any]:
    """Run tasks that only wait, and tasks that do nothing, on workers that share one process."""
    data = np.random.default_rng(0).bytes(MODEL_BYTES)
    count = PER_WORKER * workers
    with local_cluster(workers, processes=False) as (cluster, members):
        handle = cluster.share(data)
        start = time.perf_counter()
        waiting = [cluster.anywhere.submit(pause, handle, TASK_S) for _ in range(count)]
        wait(waiting)
        seconds = time.perf_counter() - start
        used = Counter(future.result()[0] for future in waiting)
        # One worker made it; the others got it from one another.
        arrived = [handle.key in each["keys"] for m in members.values() for each in m.transfer_incoming_log]
        copies = 1 + sum(arrived)
        again = cluster.share(data)
        start = time.perf_counter()
        wait([cluster.anywhere.submit(pause, handle, 0.0) for _ in range(count)])
        empty = time.perf_counter() - start
    return {
        "workers": workers,
        "tasks": count,
        "task_s": TASK_S,
        "seconds": round(seconds, 2),
        "used": round(count * TASK_S / (workers * seconds), 3),
        "workers_used": len(used),
        "copies": copies,
        "one_handle": again.key == handle.key,
        "overhead_ms_per_task": round(1000 * empty / count, 2),
    }


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    lines = ["| " + " | ".join(c.replace("_", " ") for c in columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(str(row[c]) for c in columns) + " |" for row in rows)])


REAL = ("workers", "trials", "seconds")
SIMULATED = ("workers", "tasks", "seconds", "used", "copies", "overhead_ms_per_task")


def tables(found: dict[str, Any]) -> list[str]:
    """Return what the guide shows."""
    return [table(found["processes"], REAL), table(found["simulated"], SIMULATED)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-cluster.json")
    options = parser.parse_args()
    found: dict[str, Any] = {"environment": environment(), "distributed": distributed.__version__}
    found |= {"load_average": os.getloadavg(), "simulated": [], "processes": []}
    options.out.parent.mkdir(exist_ok=True)
    for kind, counts in (("simulated", options.workers), ("processes", [0, *options.processes])):
        for count in counts:
            found[kind].append(simulated_row(count) if kind == "simulated" else real_row(count, options.trials))
            print(found[kind][-1], flush=True)
            options.out.write_text(json.dumps(found, indent=1, default=str) + "\n")
    print("\n\n".join(tables(found)))
    print(f"saved {options.out}")
    twice = [r for r in found["simulated"] if r["copies"] > r["workers"] or not r["one_handle"]]
    idle = [r for r in found["simulated"][-1:] if r["used"] < LEAST_USED]
    return 1 if twice or idle else 0


if __name__ == "__main__":
    raise SystemExit(main())
