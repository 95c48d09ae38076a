"""Peak memory of a model."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxopt.child import child_environment
from onnxopt.measure.providers import provider_name
from onnxopt.measure.session import OPTIMIZATIONS, Loadable, Runtime
from onnxopt.model_file import materialize
from onnxopt.samples import Feeds

TIMEOUT_S = 300


def peak_memory_bytes(model: Loadable, feeds: Feeds, runtime: Runtime) -> int | None:
    """Return how much a fresh process grows at most while it loads and runs `model`; None when that cannot be told.

    Raises:
        UsageError: ONX106 the provider is not available.
    """
    provider = provider_name(runtime.provider)
    try:
        if isinstance(model, ir.Model):
            with materialize(model) as source:
                return _probe(source, feeds, runtime, provider)
        return _probe(model, feeds, runtime, provider)
    except (OSError, subprocess.SubprocessError, ValueError):  # nice to know, never worth failing a measurement
        return None


def _probe(source: bytes | str | Path, feeds: Feeds, runtime: Runtime, provider: str) -> int | None:
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as name:
        folder = Path(name)
        if isinstance(source, bytes):
            (folder / "model.onnx").write_bytes(source)
            source = folder / "model.onnx"
        arrays = [np.asarray(array) for array in feeds.values()]
        np.savez(folder / "feeds.npz", *[a.astype(str) if a.dtype.kind == "O" else a for a in arrays])
        task = {
            "model": str(Path(source).resolve()),
            "names": list(feeds),
            "provider": provider,
            "threads": runtime.threads,
            "level": OPTIMIZATIONS[runtime.optimization],
            "options": runtime.options,
        }
        (folder / "task.json").write_text(json.dumps(task))
        done = subprocess.run(
            [sys.executable, "-m", "onnxopt.measure.memory_probe", name],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
            env=child_environment(),
        )
    grown = json.loads(done.stdout)
    return None if grown is None else int(grown)
