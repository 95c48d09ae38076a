"""Runner of a benchmark kit on a device: predictions against the expected ones, and latency in alternating runs.

    python run.py [--threads 1] [--seconds 5] [--max-celsius 75]

Needs onnxruntime and numpy, nothing else. Writes result.json and outputs.npz beside itself.
"""

import argparse
import hashlib
import json
import os
import platform
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it has an effect only before the library is loaded

import onnxruntime

from onnxopt.measure.device.heat import HOTTEST_CELSIUS, Throttle, temperatures, too_hot
from onnxopt.measure.latency.estimate import per_run_ns, throttled_share, undisturbed, waiting_share
from onnxopt.measure.latency.rounds import race
from onnxopt.measure.latency.watch import watch_of
from onnxopt.measure.runtime.emulation import emulator

PROCESSOR = "CPUExecutionProvider"
FEWEST_ROUNDS = 2
WARM_UP_RUNS = 10


@dataclass(frozen=True)
class Place:
    """Threads of a run, and the execution provider that computes."""

    threads: int
    provider: str


def measure_kit(
    folder: Path, threads: int | None = None, seconds: float | None = None, max_celsius: float | None = None
) -> dict[str, Any]:
    """Run the kit in `folder` and write its result there; end with the reason while the device is too hot."""
    job = json.loads((folder / "job.json").read_text())
    limit = job.get("max_celsius", HOTTEST_CELSIUS) if max_celsius is None else max_celsius
    hot = too_hot(limit, job.get("cool_down_s", 0.0))
    if hot:
        raise SystemExit(hot)
    place, seconds = Place(threads or job["threads"], job.get("provider", PROCESSOR)), seconds or job["seconds"]
    paths = [folder / model["file"] for model in job["models"]]
    with np.load(folder / "samples.npz") as stored:
        batches = [{name: stored[f"{i}/{name}"] for name in job["inputs"]} for i in range(job["batches"])]
    outputs: dict[str, np.ndarray] = {}
    agreement = []
    with np.load(folder / "expected.npz") as expected:
        for index, path in enumerate(paths):
            found = _predict(index, path, batches, place)
            agreement.append(_agreement(found, expected))
            outputs.update(found)
    why = emulator()
    before = temperatures()
    result = {
        "format": job["format"],
        "device": {**device_facts(), "emulated": why, "threads": place.threads, "provider": place.provider},
        "models": [
            {"name": model["name"], "sha256": _digest(path), "size_bytes": model["size_bytes"], **same}
            for model, path, same in zip(job["models"], paths, agreement, strict=True)
        ],
        "batch_size": job["batch_size"],
        "inputs": job.get("timed", 1),
        "epochs": []
        if why
        else _race(
            paths, batches[: job.get("timed", 1)], place, seconds=seconds, epochs=job["epochs"], seed=job["seed"]
        ),
        "refused": f"latency is not measured under emulation: {why}" if why else None,
        "celsius": {"before": before, "after": temperatures()},
    }
    np.savez_compressed(folder / "outputs.npz", **outputs)  # type: ignore[arg-type]
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def device_facts() -> dict[str, Any]:
    """Return the facts of the device on which a figure depends."""
    fields: dict[str, str] = {}
    for line in _text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    cpu = fields.get("model name") or fields.get("Model") or fields.get("Hardware") or platform.processor()
    board = _text("/proc/device-tree/model").strip("\0\n ")
    return {
        "name": platform.node(),
        "board": board or None,
        "cpu": cpu or f"implementer {fields.get('CPU implementer', '?')} part {fields.get('CPU part', '?')}",
        "architecture": platform.machine(),
        "flags": (fields.get("flags") or fields.get("Features") or "").split(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        "os": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


def _session(path: Path, place: Place) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = place.threads, 1
    options.log_severity_level = 4
    if place.threads > 1:
        # Threads that spin after a run would take time from the next model's.
        options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=[place.provider])
    if session.get_providers()[0] != place.provider:
        offered = ", ".join(onnxruntime.get_available_providers())
        raise SystemExit(f"{place.provider} cannot be used: this ONNX Runtime offers {offered}")
    return session


def _predict(index: int, path: Path, batches: list[dict[str, np.ndarray]], place: Place) -> dict[str, np.ndarray]:
    session = _session(path, place)
    names = [output.name for output in session.get_outputs()]
    found = {}
    for number, feeds in enumerate(batches):
        for name, value in zip(names, session.run(names, feeds), strict=True):
            if isinstance(value, np.ndarray):
                found[f"{index}/{number}/{name}"] = value
    return found


def _agreement(found: dict[str, np.ndarray], expected: Any) -> dict[str, Any]:
    """Compare outputs with those of the machine that made the kit."""
    difference, same, count = 0.0, 0, 0
    for key, value in found.items():
        wanted = expected[key]
        if value.shape != wanted.shape or value.dtype != wanted.dtype:
            return {"difference": None, "same_class": 0, "classified": max(count, 1)}
        if value.dtype.kind == "f" and value.size:
            largest = float(np.max(np.abs(wanted))) or 1.0
            difference = max(difference, float(np.max(np.abs(value.astype(np.float64) - wanted))) / largest)
        if value.dtype.kind == "f" and value.ndim > 1 and value.shape[-1] > 1:
            agrees = value.argmax(axis=-1) == wanted.argmax(axis=-1)
            same, count = same + int(agrees.sum()), count + agrees.size
        elif value.dtype.kind in "iub":
            same, count = same + int((value == wanted).sum()), count + value.size
    return {"difference": difference, "same_class": same, "classified": count}


def _race(
    paths: list[Path], inputs: list[dict[str, np.ndarray]], place: Place, *, seconds: float, epochs: int, seed: int
) -> list[dict[str, Any]]:
    """Time the models in turn; every epoch loads them anew, because the place of their memory affects the time."""
    rng = np.random.default_rng(seed)
    return [_epoch(paths, inputs, place, seconds / epochs, rng) for _ in range(epochs)]


def _epoch(
    paths: list[Path], inputs: list[dict[str, np.ndarray]], place: Place, seconds: float, rng: np.random.Generator
) -> dict[str, Any]:
    count = len(paths)
    watch = replace(watch_of(place.threads, on_processor=place.provider == PROCESSOR), throttle=Throttle().read)
    load_ms, first_ms = [0.0] * count, [0.0] * count
    sessions: dict[int, onnxruntime.InferenceSession] = {}
    for i in map(int, rng.permutation(count)):
        start = time.perf_counter_ns()
        sessions[i] = _session(paths[i], place)
        load_ms[i] = (time.perf_counter_ns() - start) / 1e6
        first_ms[i] = _timed(sessions[i], inputs[0]) / 1e6
    rounds = race(
        [[partial(sessions[i].run, None, feeds) for feeds in inputs] for i in range(count)],
        budget_ns=int(seconds * 1e9),
        min_rounds=FEWEST_ROUNDS,
        warmup=WARM_UP_RUNS,
        rng=rng,
        watch=watch,
        start=int(rng.integers(len(inputs))),
    )
    clean = undisturbed(rounds, watch.pauses)
    typical_ms = per_run_ns(clean or rounds, _kinds(inputs)) / 1e6
    walls = [np.concatenate([one.wall_ns[i] for one in rounds]) for i in range(count)]
    quantiles = [np.quantile(wall, [0.9, 0.99]) / 1e6 for wall in walls]
    return {
        "load_ms": load_ms,
        "first_run_ms": first_ms,
        "p50_ms": typical_ms.tolist(),
        "p90_ms": [float(q[0]) for q in quantiles],
        "p99_ms": [float(q[1]) for q in quantiles],
        "runs": [len(wall) for wall in walls],
        "speedup": (typical_ms[0] / typical_ms).tolist(),
        "clean": len(clean),
        "rounds": len(rounds),
        "waited": waiting_share(rounds),
        "throttled": throttled_share(rounds),
    }


def _kinds(inputs: list[dict[str, np.ndarray]]) -> list[int]:
    """Return a number for each input; inputs of equal shapes have the same number."""
    seen: dict[Any, int] = {}
    return [seen.setdefault(tuple(np.shape(a) for a in feeds.values()), len(seen)) for feeds in inputs]


def _timed(session: onnxruntime.InferenceSession, feeds: dict[str, np.ndarray]) -> int:
    start = time.perf_counter_ns()
    session.run(None, feeds)
    return time.perf_counter_ns() - start


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def main() -> int:
    """Measure the kit that contains this file."""
    parser = argparse.ArgumentParser(description="Measure the models of this kit on this device.")
    parser.add_argument("--threads", type=int, help="compute threads of one run")
    parser.add_argument("--seconds", type=float, help="time to spend on timed runs")
    parser.add_argument("--max-celsius", type=float, help="highest temperature at the start")
    args = parser.parse_args()
    result = measure_kit(Path(__file__).parent, args.threads, args.seconds, args.max_celsius)
    for index, model in enumerate(result["models"]):
        p50 = [epoch["p50_ms"][index] for epoch in result["epochs"]]
        time_of = f"p50 {np.median(p50):.3f} ms" if p50 else "not timed"
        print(f"{model['name']}: {time_of}; same class as expected {model['same_class']}/{model['classified']}")
    print(result["refused"] or "Written: result.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
