"""Time a model and its NNCF INT8 form in OpenVINO, beside the model in ONNX Runtime: an outside reference.

    PYTHON bench/openvino_int8.py MODEL.onnx INT8.onnx SAMPLES.npz LABELS.npy [--seconds 8]

Runs where openvino, onnxruntime and numpy are, with nothing of this project needed; one sample, one thread, the three
take turns. Prints JSON: p50 in milliseconds of each, and the share of samples whose class is the label in OpenVINO.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import onnxruntime
import openvino

Run = Callable[[dict[str, np.ndarray]], np.ndarray]


def in_onnxruntime(path: str) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)[0]


def in_openvino(path: str) -> Run:
    config: dict[str, Any] = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(openvino.Core().read_model(path), "CPU", config)
    request = compiled.create_infer_request()

    def run(feeds: dict[str, np.ndarray]) -> np.ndarray:
        request.infer(feeds, share_inputs=True)
        return request.get_output_tensor(0).data

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "int8", "samples", "labels"):
        parser.add_argument(name)
    parser.add_argument("--seconds", type=float, default=8.0)
    args = parser.parse_args()
    with np.load(args.samples) as file:
        count = 1 + max(int(key.split("/")[0]) for key in file.files)
        samples: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
        for key in file.files:
            index, name = key.split("/", 1)
            samples[int(index)][name] = file[key]
    runs = {
        "onnxruntime": in_onnxruntime(args.model),
        "openvino": in_openvino(args.model),
        "openvino-int8": in_openvino(args.int8),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(3):
            run(samples[0])
    end = time.perf_counter() + args.seconds
    while time.perf_counter() < end:
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(5):
                run(samples[0])
            times[name].append((time.perf_counter() - start) / 5)
    labels = np.load(args.labels)
    accuracy = {
        name: float(np.mean([int(np.argmax(run(s))) == label for s, label in zip(samples, labels, strict=True)]))
        for name, run in runs.items()
    }
    p50 = {name: 1000 * statistics.median(found) for name, found in times.items()}
    about = {name: version(name) for name in ("openvino", "onnxruntime")}
    print(json.dumps({"p50_ms": p50, "accuracy": accuracy, "n": count, "versions": about}))


if __name__ == "__main__":
    main()
