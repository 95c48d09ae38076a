"""The first step of a separate process: load the model of a task folder with few imports."""

import json
from pathlib import Path

import numpy as np
import onnxruntime


def opened(folder: Path) -> tuple["onnxruntime.InferenceSession", dict[str, np.ndarray]]:
    """Return the session and the inputs of a folder, see `onnxopt.measure.runtime.apart`."""
    task = json.loads((folder / "task.json").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task["threads"]
    options.inter_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, task["level"])
    options.log_severity_level = 4
    for key, value in task["options"]:
        options.add_session_config_entry(key, value)
    with np.load(folder / "feeds.npz") as arrays:
        feeds = {name: arrays[f"arr_{index}"] for index, name in enumerate(task["names"])}
    return onnxruntime.InferenceSession(task["model"], options, providers=[task["provider"]], enable_fallback=0), feeds
