"""The first step of a separate process: load the model of a task folder with few imports."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime


def load_and_inputs(folder: Path) -> tuple[Callable[[], "onnxruntime.InferenceSession"], dict[str, np.ndarray]]:
    """Return the load of a folder's model, which can be timed, and its inputs, see `onnxopt.measure.runtime.apart`."""
    task = json.loads((folder / "task.json").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task["threads"]
    options.inter_op_num_threads = task["inter_threads"]
    if task["inter_threads"] > 1:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = task["arena"]
    options.enable_mem_pattern = task["memory_pattern"]
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, task["level"])
    options.log_severity_level = 4
    for key, value in task["options"]:
        options.add_session_config_entry(key, value)
    with np.load(folder / "feeds.npz") as arrays:
        feeds = {name: arrays[f"arr_{index}"] for index, name in enumerate(task["names"])}
    model, providers = task["model"], [task["provider"]]
    return lambda: onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0), feeds
