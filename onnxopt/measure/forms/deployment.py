"""A deployment of a model: its file and its configuration; and the files that are made for it."""

from dataclasses import dataclass, replace
from pathlib import Path

from onnxopt.errors import ModelError
from onnxopt.measure.forms.session_file import FormName
from onnxopt.measure.runtime.session import Session
from onnxopt.model_file.room import is_about_room, no_room
from onnxopt.options.runtime import FullRuntime

LEAST_OUTSIDE_BYTES = 1024
"""Smaller weights stay in the model file."""

STOP_SPINNING = "session.force_spinning_stop"
THREAD_ENTRIES = (
    STOP_SPINNING,
    "session.dynamic_block_base",
    "session.intra_op.allow_spinning",
    "session.inter_op.allow_spinning",
    "session.prepack.enable_parallel",
)
"""Entries without a meaning for one thread."""

BAKED = ("optimization.disable_specified_optimizers",)
"""Entries that changed the graph when it was written, and have nothing left to change."""


@dataclass(frozen=True)
class Deployment:
    """A model as it may be deployed.

    Attributes:
        file: the file that is loaded.
        runtime: how.
        form: form of the file.
    """

    file: Path
    runtime: FullRuntime
    form: FormName = "onnx"

    def having(self, *entries: tuple[str, str]) -> "Deployment":
        """Return it with further session entries, which replace those of the same name."""
        options = dict(self.runtime.options) | dict(entries)
        return replace(self, runtime=replace(self.runtime, options=tuple(options.items())))

    def lacking(self, *keys: str) -> "Deployment":
        """Return it without the entries of these names."""
        options = tuple((key, value) for key, value in self.runtime.options if key not in keys)
        return replace(self, runtime=replace(self.runtime, options=options))

    def with_threads(self, threads: int, inter_threads: int = 1) -> "Deployment":
        """Return it with so many threads, which stop spinning after a run: otherwise none beside it can be measured."""
        changed = replace(self, runtime=replace(self.runtime, threads=threads, inter_threads=inter_threads))
        if changed.runtime.most_threads == 1:
            return changed.lacking(*THREAD_ENTRIES)
        return changed.having((STOP_SPINNING, "1"))


def names_of(stem: str) -> tuple[str, str, str]:
    """Return the names of files of other forms: the optimized graph, its weights, the runtime's own format."""
    graph = f"{stem}.session.onnx"
    return graph, f"{graph}.data", f"{stem}.session.ort"


def prepacked(deployment: Deployment, folder: Path, stem: str) -> Deployment:
    """Write the optimized graph with weights as its kernels on this processor pack them, and return it as a deployment.

    The weights are in a file beside it, which is mapped when the graph is loaded.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot write it.
        FileError: ONX503 there is no room.
    """
    out = folder / names_of(stem)[0]
    entries = (
        ("session.optimized_model_external_initializers_file_name", f"{out.name}.data"),
        ("session.optimized_model_external_initializers_min_size_in_bytes", str(LEAST_OUTSIDE_BYTES)),
        ("session.save_external_prepacked_constant_initializers", "1"),
    )
    return _written(deployment, out, entries, "prepacked")


def ort_form(deployment: Deployment, folder: Path, stem: str) -> Deployment:
    """Write the optimized graph in ONNX Runtime's own format, as a deployment; raises like `prepacked`."""
    out = folder / names_of(stem)[-1]
    return _written(deployment, out, (("session.save_model_format", "ORT"),), "ort")


def _written(deployment: Deployment, out: Path, entries: tuple[tuple[str, str], ...], form: FormName) -> Deployment:
    runtime = replace(deployment.runtime, options=(*deployment.runtime.options, *entries))
    try:
        Session(deployment.file, runtime, optimized_path=out)
    except ModelError as error:
        if is_about_room(error):
            raise no_room(str(out.parent), error.why) from error
        raise
    changed = replace(deployment, file=out, form=form, runtime=replace(deployment.runtime, optimization="none"))
    return changed.lacking(*BAKED)
