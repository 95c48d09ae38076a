"""The first load of a model from elsewhere, in a process of its own: ONNX Runtime can crash on an odd one."""

import hashlib
import subprocess
import sys
from pathlib import Path

from onnxopt import model_file
from onnxopt.child import child_environment
from onnxopt.errors import ModelError

PATIENCE_S = 120
"""A load that takes longer is left to the caller, who can be interrupted."""

_LOAD = """
import sys
import onnxruntime
onnxruntime.set_default_logger_severity(4)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 4
try:
    onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
except Exception:
    pass
"""

_DEATHS: dict[str, str] = {}
"""How the load of a file with this SHA-256 ended; "" where the child lived."""


def survive_loading(path: Path) -> None:
    """Load a model file with ONNX Runtime in a child process; once per content, for as long as this process lives.

    What the runtime refuses in words is left to whoever loads the file next, who says them.

    Raises:
        ModelError: ONX304 the child died; ONX305 its functions expand without end.
    """
    if path.is_file():
        model_file.refuse_endless(path)  # the runtime would expand them for hours
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
        command = [sys.executable, "-P", "-c", _LOAD, path]
        ended = subprocess.run(command, env=child_environment(), capture_output=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return ""
    if ended.returncode >= 0:
        return ""
    return f"the process that loaded it was ended by signal {-ended.returncode}"
