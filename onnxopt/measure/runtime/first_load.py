"""The first load of an untrusted model, in a separate process, because ONNX Runtime may crash on it."""

import hashlib
import subprocess
import sys
from pathlib import Path

from onnxopt import model_file
from onnxopt.child import child_environment
from onnxopt.errors import ModelError
from onnxopt.model_file import memory

PATIENCE_S = 120
"""Time limit of the load; a longer one is left to the caller, who can interrupt it."""

_LOAD = """
import sys
import onnxruntime
onnxruntime.set_default_logger_severity(4)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 4
if len(sys.argv) > 2:  # a large model: its weights stay in their file
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
try:
    onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
except Exception:
    pass
"""

_DEATHS: dict[str, str] = {}
"""End of the load of a file, by its SHA-256; "" if the child survived."""


def survive_loading(path: Path) -> None:
    """Load a model file with ONNX Runtime in a child process, once per content and process.

    If the runtime refuses the model with an error, the next load of the file reports it.

    Raises:
        ModelError: ONX304 the child died; ONX305 its functions expand without end.
    """
    if path.is_file():
        model_file.refuse_endless(path)  # the runtime would expand the functions for hours
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest not in _DEATHS:
            _DEATHS[digest] = _death(str(path))
        if _DEATHS[digest]:
            raise ModelError(
                "ONX304",
                "ONNX Runtime crashes on the model",
                where=str(path),
                why=_DEATHS[digest],
                hint="Check the file with onnx.checker, and do not load it anywhere else; export it again.",
            )


def _death(path: str) -> str:
    try:
        large = ["large"] if _is_large(path) else []
        command = [sys.executable, "-P", "-c", _LOAD, path, *large]
        ended = subprocess.run(command, env=child_environment(), capture_output=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return ""
    if ended.returncode >= 0:
        return ""
    return f"the process that loaded it was ended by signal {-ended.returncode}"


def _is_large(path: str) -> bool:
    try:
        return model_file.size_of(path) > memory.EXTERNAL_ABOVE_BYTES
    except Exception:  # protobuf's errors on a damaged file, which is refused in words when it is read
        return False
