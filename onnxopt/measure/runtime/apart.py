"""A task folder with a model and its inputs, for a separate process."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.providers import provider_name
from onnxopt.measure.runtime.session import Loadable, Runtime
from onnxopt.model_file import materialize
from onnxopt.options.runtime import OPTIMIZATIONS, full
from onnxopt.samples import Feeds


@contextmanager
def task_folder(model: Loadable, feeds: Feeds, runtime: Runtime) -> Iterator[Path]:
    """Yield a temporary folder with `task.json` and `feeds.npz` for `onnxopt.measure.runtime.probe`.

    Raises:
        UsageError: ONX106 the provider is not available.
    """
    provider = provider_name(runtime.provider)
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as name:
        folder = Path(name)
        if isinstance(model, ir.Model):
            with materialize(model, mapped=False) as source:
                _write(folder, source, feeds, runtime, provider)
                yield folder
        else:
            _write(folder, model, feeds, runtime, provider)
            yield folder


def _write(folder: Path, source: bytes | str | Path, feeds: Feeds, runtime: Runtime, provider: str) -> None:
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
        "inter_threads": full(runtime).inter_threads,
        "arena": full(runtime).arena,
        "memory_pattern": full(runtime).memory_pattern,
    }
    (folder / "task.json").write_text(json.dumps(task))
