"""ONNX Runtime sessions: with the requested provider or an error, without logs, with this program's error codes."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from onnxopt.errors import FileError, ModelError, NativeError, first_line
from onnxopt.measure.runtime.first_load import survive_float16
from onnxopt.measure.runtime.interrupt import raise_if_interrupted, run_options
from onnxopt.measure.runtime.overdue import in_time
from onnxopt.measure.runtime.providers import provider_name, unavailable
from onnxopt.model_file import load, materialize, share_weights
from onnxopt.model_file.heap import trim_heap
from onnxopt.model_file.room import is_about_room, no_room
from onnxopt.options.runtime import OPTIMIZATIONS, full
from onnxopt.options.runtime import Runtime as Runtime  # noqa: PLC0414  # sessions and their options are one door
from onnxopt.samples import Feeds

Loadable = ir.Model | Path | str | bytes
"""A model in memory, the path of a file, or its bytes."""

_NUMBERS = "fiub"
"""Kinds of arrays that the runtime takes without a copy."""

MAPPED = Runtime(optimization="none", options=(("session.disable_prepacking", "1"),))
"""For a look at a model that memory does not hold twice: weights in files stay there, nothing is prepared for speed."""


def session_options(runtime: Runtime) -> "onnxruntime.SessionOptions":
    """Return new ONNX Runtime session options."""
    options, mode, every = onnxruntime.SessionOptions(), onnxruntime.ExecutionMode, full(runtime)
    options.intra_op_num_threads = every.threads
    options.inter_op_num_threads = every.inter_threads
    options.execution_mode = mode.ORT_PARALLEL if every.inter_threads > 1 else mode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = every.arena
    options.enable_mem_pattern = every.memory_pattern
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, OPTIMIZATIONS[runtime.optimization])
    options.log_severity_level = 4
    for key, value in runtime.options:
        options.add_session_config_entry(key, value)
    return options


class Session:
    """A model ready to run.

    Args:
        model: the model to load.
        runtime: configuration of ONNX Runtime.
        profile_prefix: path prefix of the profile that ONNX Runtime writes; None for no profiling.
        optimized_path: path of the optimized graph that ONNX Runtime writes; None to write none.

    Attributes:
        load_ms: time ONNX Runtime took to load and optimize the model.
        input_names: the names of inputs in graph order, without weights.
        output_names: the names of outputs in graph order.
        native: the `onnxruntime.InferenceSession`.

    Raises:
        UsageError: ONX102 there is no such provider, ONX106 it is not available, or ONNX Runtime fell back to another.
        FileError: ONX501 the file does not exist.
        ModelError: ONX304 ONNX Runtime cannot load the model, or crashes on it.
    """

    def __init__(
        self,
        model: Loadable,
        runtime: Runtime,
        *,
        profile_prefix: Path | None = None,
        optimized_path: Path | None = None,
    ) -> None:
        raise_if_interrupted()
        self.runtime = runtime
        provider = provider_name(runtime.provider)
        options = session_options(runtime)
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile_prefix)
        if optimized_path is not None:
            options.optimized_model_filepath = str(optimized_path)
        with _openable(model) as source:
            if isinstance(model, ir.Model):
                survive_float16(model, source, runtime.optimization)
            start_ns = time.perf_counter_ns()
            try:
                self.native = onnxruntime.InferenceSession(source, options, providers=[provider], enable_fallback=0)
            except Exception as error:  # onnxruntime's errors have no common base class
                raise _load_error(error) from error
            self.load_ms = (time.perf_counter_ns() - start_ns) / 1e6
        used = self.native.get_providers()[0]
        if used != provider:
            raise unavailable(runtime.provider, f"ONNX Runtime fell back to {used}; its libraries cannot be loaded")
        self.input_names: tuple[str, ...] = tuple(i.name for i in self.native.get_inputs())
        self.output_names: tuple[str, ...] = tuple(o.name for o in self.native.get_outputs())
        self._takes = {*self.input_names, *(i.name for i in self.native.get_overridable_initializers())}

    @property
    def metadata(self) -> dict[str, str]:
        """The file's own key-value notes."""
        return dict(self.native.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> list[Any]:
        """Run one batch; inputs that a part of a model does not read are left out.

        Returns:
            One numpy array per output, in graph order or the order of `outputs`; a list of dictionaries for a map
            output such as that of scikit-learn's ZipMap.

        Raises:
            NativeError: ONX401 the run failed, ONX410 it does not end.
            KeyboardInterrupt: inside `interruptible`, the user pressed Ctrl-C.
        """
        raise_if_interrupted()
        options = run_options() or _quiet()
        with in_time(options), failures_named(feeds):
            return list(self.bound(feeds, outputs, options)())

    def one_by_one(self, feeds: Feeds, outputs: Sequence[str]) -> Iterator[np.ndarray]:
        """Run one batch and yield tensors, each of which is freed before the next is copied; raises like `run`."""
        raise_if_interrupted()
        options = run_options() or _quiet()
        fed = {name: array for name, array in feeds.items() if name in self._takes}
        with in_time(options), failures_named(feeds):
            return copied_one_by_one(self.native, outputs, fed, options)

    def named(self, feeds: Feeds) -> dict[str, Any]:
        """Run one batch and return its outputs by name; raises like `run`."""
        return dict(zip(self.output_names, self.run(feeds), strict=True))

    def bound(
        self, feeds: Feeds, outputs: Sequence[str] | None = None, options: "onnxruntime.RunOptions | None" = None
    ) -> Callable[[], Sequence[Any]]:
        """Return the bare native run of one batch, for timing, without this program's code and errors."""
        names = list(self.output_names if outputs is None else outputs)
        native, options = self.native, options or run_options() or _quiet()
        fed = {name: array for name, array in feeds.items() if name in self._takes}
        return lambda: native.run(names, fed, options)

    def end_profiling(self) -> Path:
        """Stop profiling and return the file that was written."""
        return Path(self.native.end_profiling())


def copied_one_by_one(
    native: "onnxruntime.InferenceSession", names: Sequence[str], feeds: Feeds, options: "onnxruntime.RunOptions"
) -> Iterator[np.ndarray]:
    """Run a model, and return its tensors, each of which is freed before the next is copied from the runtime."""
    if not names:
        return iter(())
    if any(np.asarray(array).dtype.kind not in _NUMBERS for array in feeds.values()):
        return iter(native.run(list(names), dict(feeds), options))
    given = {name: onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(array)) for name, array in feeds.items()}
    found = native.run_with_ort_values(list(names), given, options)
    return (found.pop(0).numpy() for _ in names)


@contextmanager
def failures_named(feeds: Feeds) -> Iterator[None]:
    """Convert exceptions of a native run to this program's errors.

    Raises:
        NativeError: ONX401 the run failed.
        KeyboardInterrupt: Ctrl-C ended the run.
    """
    try:
        yield
    except Exception as error:  # onnxruntime's errors have no common base class
        raise_if_interrupted()
        raise NativeError(
            "ONX401",
            "ONNX Runtime failed while running the model",
            why=first_line(error).rstrip("."),
            hint=f"It was fed {_describe(feeds)}.",
        ) from error


@contextmanager
def as_shipped(model: Loadable, runtime: Runtime) -> Iterator[Loadable]:
    """Give out a model in memory as the file or the bytes that ship, written once for several sessions.

    Sessions for a few runs have their weights in a second file, which takes less memory and another time to load.

    Raises:
        FileError: ONX503 there is no room for a temporary file.
        ModelError: ONX304 ONNX Runtime crashes on the model.
    """
    if not isinstance(model, ir.Model):
        yield model
        return
    with materialize(model, mapped=False) as source:
        survive_float16(model, source, runtime.optimization)
        yield source
    trim_heap()


def optimized_model(model: Loadable, runtime: Runtime) -> ir.Model:
    """Return ONNX Runtime's optimized graph of `model`, the operators that really run, fused and INT8 ones included.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        FileError: ONX503 there is no room for a temporary file.
    """
    with _folder() as folder:
        # The session ends before its graph is read, for each holds all weights.
        path = _written(model, runtime, folder)[1]
        optimized = load(path)
        if isinstance(model, ir.Model):
            share_weights(optimized, model)
        ir.external_data.load_to_model(optimized)
    return optimized


def session_and_graph(
    model: Loadable, runtime: Runtime, *, profile_prefix: Path | None = None
) -> tuple[Session, bytes]:
    """Return a session and the optimized graph of `optimized_model` as a file without the numbers of large weights.

    Loading a graph of thousands of nodes takes the runtime longer than all else here, so it is loaded once for both.
    `profile_prefix` is that of `Session`. Raises like `optimized_model`.
    """
    with _folder() as folder:
        session, path = _written(model, runtime, folder, profile_prefix)
        return session, path.read_bytes()


def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="onnxopt-")


def _written(
    model: Loadable, runtime: Runtime, folder: str, profile_prefix: Path | None = None
) -> tuple[Session, Path]:
    """Return a session, and the file of its graph in the folder."""
    # Above this size weights are written beside the graph, because protobuf cannot hold them.
    external = (
        ("session.optimized_model_external_initializers_file_name", "weights.data"),
        ("session.optimized_model_external_initializers_min_size_in_bytes", str(1 << 20)),
    )
    runtime = replace(runtime, options=(*runtime.options, *external))
    path = Path(folder) / "optimized.onnx"
    try:
        return Session(model, runtime, profile_prefix=profile_prefix, optimized_path=path), path
    except ModelError as error:
        if is_about_room(error):
            raise no_room(folder, error.why) from error
        raise


def _openable(model: Loadable) -> AbstractContextManager[bytes | str]:
    if isinstance(model, ir.Model):
        return materialize(model)
    if isinstance(model, bytes):
        return nullcontext(model)
    if not Path(model).is_file():
        raise FileError("ONX501", "the model file does not exist", where=str(model), hint="Check the path.")
    trim_heap()
    return nullcontext(str(model))


def _load_error(error: Exception) -> ModelError:
    why = first_line(error).rstrip(".")
    if "NOT_IMPLEMENTED" in why:
        hint = "This build has no kernel for that operator and type; export with another opset or type."
    else:
        hint = "Check the model with onnx.checker, and that its opset is one this version of ONNX Runtime supports."
    return ModelError("ONX304", "ONNX Runtime cannot load the model", why=why, hint=hint)


def _quiet() -> "onnxruntime.RunOptions":
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    return options


def _describe(feeds: Feeds) -> str:
    shapes = (f"{name}: {np.asarray(array).dtype}{list(np.shape(array))}" for name, array in feeds.items())
    return ", ".join(shapes) or "nothing"
