"""The first load of a model that may crash ONNX Runtime, in a separate process."""

import hashlib
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.child import child_environment
from onnxopt.errors import ModelError
from onnxopt.model_file import memory
from onnxopt.options.runtime import OPTIMIZATIONS, OptimizationLevel

PATIENCE_S = 120
"""Time limit of the load; a longer one is left to the caller, who can interrupt it."""

_LOAD = """
import sys
import onnxruntime
onnxruntime.set_default_logger_severity(4)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 4
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, sys.argv[2])
if len(sys.argv) > 3:  # a large model: its weights stay in their file
    options.add_session_config_entry("session.disable_prepacking", "1")
try:
    onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
except Exception:
    pass
"""


class CrashError(ModelError):
    """ONX304: a process that loaded the model was ended by a signal."""


_DEATHS: dict[tuple[str, OptimizationLevel], str] = {}
"""End of the load of a file, by its SHA-256 and the level of optimization; "" if the child survived."""


def survive_loading(path: Path, level: OptimizationLevel = "all") -> None:
    """Load a model file with ONNX Runtime in a child process, once per content, level and process.

    If the runtime refuses the model with an error, the next load of the file reports it.

    Raises:
        CrashError: ONX304 the child died.
        ModelError: ONX305 its functions expand without end.
    """
    if path.is_file():
        model_file.refuse_endless(path)  # the runtime would expand the functions for hours
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        _refuse_deadly(path, digest, level, str(path))


def survive_float16(model: ir.Model, source: bytes | str, level: OptimizationLevel) -> None:
    """Load a float16 graph with transposes in a child process first, because ONNX Runtime may crash on it.

    On x86-64 its optimizer meets transposes that it made itself and did not finish
    (https://github.com/microsoft/onnxruntime/issues/28392). Other graphs are not loaded.

    Args:
        model: the graph.
        source: its bytes, or the path of its file.
        level: the level of optimization; the crash needs "all".

    Raises:
        CrashError: ONX304 the child died.
    """
    if level != "all" or platform.machine() not in ("x86_64", "AMD64") or not _moves_float16(model):
        return
    if isinstance(source, str):
        survive_loading(Path(source), level)
        return
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(source)
        _refuse_deadly(path, hashlib.sha256(source).hexdigest(), level, "")


def _moves_float16(model: ir.Model) -> bool:
    """Whether the graph has transposes and computes in float16; weights that are only stored in it do not count."""
    nodes = list(model.graph.all_nodes())
    return any(node.op_type == "Transpose" for node in nodes) and any(
        value is not None and value.dtype is ir.DataType.FLOAT16
        for node in nodes
        if node.op_type != "Cast"
        for value in node.inputs
    )


def _refuse_deadly(path: Path, digest: str, level: OptimizationLevel, where: str) -> None:
    key = digest, level
    if key not in _DEATHS:
        _DEATHS[key] = _death(str(path), level)
    if not _DEATHS[key]:
        return
    hint = "Check the file with onnx.checker, and do not load it anywhere else; export it again."
    if level == "all" and not _death(str(path), "extended"):
        hint = (
            "Its last optimizations crash: load it with ORT_ENABLE_EXTENDED, here with --optimization-level extended; "
            "or export it in float32."
        )
    raise CrashError("ONX304", "ONNX Runtime crashes on the model", where=where, why=_DEATHS[key], hint=hint)


def _death(path: str, level: OptimizationLevel) -> str:
    try:
        large = _is_large(path)
        command = [sys.executable, "-P", "-c", _LOAD, path, OPTIMIZATIONS["none" if large else level]]
        command += ["large"] if large else []
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
