"""The samples file of a model: any form of data in, one form that every command reads out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import onnx_ir as ir

from onnxopt.errors import UsageError
from onnxopt.measure.generation.states import State, named_states, refuse_several, states_of, without_states
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import Given, Signature, as_graph, given, signature_of
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.pipeline import StageProgress
from onnxopt.samples import ReadOptions, Samples, fit, open_samples
from onnxopt.samples.boxes import is_box_labels
from onnxopt.samples.expect import fixed_batch_size
from onnxopt.samples.masks import is_mask_folder
from onnxopt.samples.text import takes_tokens
from onnxopt.tasks.data.assumed import assumed
from onnxopt.tasks.data.first_run import refuse_unrunnable
from onnxopt.tasks.data.made import SampleFile, first_inputs, labels_in_words
from onnxopt.tasks.data.steps import Stepped
from onnxopt.tasks.data.written import RaggedError, has_labels, refuse_folder, write_archive, write_folder

USUAL_OUT = "samples.npz"


def data(
    source: object,
    model: Given,
    *,
    out: str | Path | None = None,
    labels: object = None,
    state: Sequence[str] = (),
    limit: int | None = None,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    progress: StageProgress | None = None,
) -> SampleFile:
    """Write the samples of a model to a file that every command reads, whole or not at all.

    States of streaming and recurrent models are made by running the model over the samples, one after another.

    Args:
        source: folder of images or sound, table, arrays, `random`, or any other form that `open_samples` takes.
        model: the input model (not modified).
        out: .npz file, or the name of a new folder without an ending, which gets a file per sample; None for
            `samples.npz`, or the folder `samples` where samples differ in shape.
        labels: one per sample, or a file of them; boxes and masks stay in their own files.
        state: inputs that take an output of the step before, each as `INPUT=OUTPUT`; none for those found by name,
            type and shape.
        limit: samples to write at most; of a model with states the first.
        read: options for reading `source`.
        overwrite: whether the file may exist; a folder is never replaced.
        progress: called with how far it is.

    Raises:
        DataError: ONX201 to ONX207 the data cannot be read or does not fit.
        FileError: ONX502 to ONX504 the output cannot be written.
        UsageError: ONX101 to ONX113 an option does not fit, see `open_samples`.
        NativeError: ONX401 the model fails on the first sample, or one with states on any.
    """
    found, options = given(model), read or ReadOptions()
    path = None if isinstance(found, ir.Model) else found
    target = Path(USUAL_OUT if out is None else out)
    archive = target.suffix == ".npz"
    _refuse(target, archive, labels)
    if archive:
        refuse_output_file(target, overwrite=overwrite, source=path, read=[source, labels], kind=".npz")
    else:
        refuse_folder(target)
    graph = as_graph(found)
    signature = signature_of(graph)
    report = progress or (lambda what, done, total: None)
    states = named_states(signature, state) if state else _states(signature, source)
    fixed = _fixed_tokens(without_states(signature, states)) if states else None
    # A cache that grows takes any number of tokens at a time.
    window = fixed or options.window or (None if any(state.grows for state in states) else 1)
    if states:
        opened = _each_step(source, signature, states, labels, options)
        session = Session(graph, Runtime())
        spool = Stepped(session, signature, states, opened, window, fixed is not None).spooled(
            limit, options.memory_mb << 20, report
        )
        samples = fit(spool, signature, batch_size=1)
    else:
        opened = samples = open_samples(source, signature, labels=labels, options=options, batch_size=None, limit=limit)
        refuse_unrunnable(graph, samples)
    said = assumed(opened, options, states, window)
    written, notes = _written(target, samples, out is None, overwrite, report)
    if samples.labels is not None and not has_labels(samples):
        notes = (*notes, "The labels are not in the file: no array holds them.")
    kept = samples.labels if has_labels(samples) else None
    size_bytes = sum(file.stat().st_size for file in (written.iterdir() if written.is_dir() else [written]))
    return SampleFile(
        written, path, len(samples), size_bytes, first_inputs(samples), labels_in_words(kept), said, notes
    )


def _refuse(target: Path, archive: bool, labels: object) -> None:
    if not archive and target.suffix:
        hint = "Name a .npz file, or a folder without an ending."
        raise UsageError("ONX101", "samples are written as .npz", where=str(target), hint=hint)
    if isinstance(labels, str | Path) and (is_box_labels(labels) or is_mask_folder(labels)):
        raise UsageError(
            "ONX112",
            "boxes and masks stay in their own files",
            where=str(labels),
            hint="Leave --labels out here, or give the images and --labels to the command that needs them.",
        )


def _states(signature: Signature, source: object) -> tuple[State, ...]:
    """Return the states to make: none where the data brings them itself."""
    states = states_of(signature)
    brought = _names_in(source, signature)
    return () if any(state.input.name in brought for state in states) else states


def _names_in(source: object, signature: Signature) -> set[str]:
    """Return the inputs that the data has by name; those of ONNX test data have none, and are all of them."""
    if isinstance(source, Mapping):
        return set(map(str, source))
    if not isinstance(source, str | Path):
        return set()
    path = Path(source)
    if path.is_dir():
        if (path / "input_0.pb").is_file() or any(path.glob("test_data_set_*")):
            return {spec.name for spec in signature.inputs}
        path = min(path.glob("*.npz"), default=path)
    if path.suffix != ".npz" or not path.is_file():
        return set()
    try:
        with ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (BadZipFile, OSError):  # said when it is read
        return set()


def _each_step(
    source: object, signature: Signature, states: Sequence[State], labels: object, options: ReadOptions
) -> Samples:
    """Return the inputs that every step is given, in order."""
    rest = without_states(signature, states)
    refuse_several(rest, fixed_batch_size(rest))
    if takes_tokens(rest):
        # Sentences are read whole and cut into steps afterwards.
        rest = replace(rest, inputs=tuple(replace(s, shape=(None,) * len(s.shape or ())) for s in rest.inputs))
    return open_samples(source, rest, labels=labels, options=options, batch_size=1)


def _fixed_tokens(signature: Signature) -> int | None:
    """Return the tokens that a model takes at a time; None for any number, or no tokens."""
    if not takes_tokens(signature):
        return None
    sizes = [spec.shape[1] for spec in signature.inputs if spec.shape is not None and len(spec.shape) == 2]
    return next((size for size in sizes if isinstance(size, int)), None)


def _written(
    target: Path, samples: Samples, may_change: bool, overwrite: bool, progress: StageProgress
) -> tuple[Path, tuple[str, ...]]:
    if target.suffix != ".npz":
        write_folder(target, samples, progress=progress)
        return target, ()
    try:
        write_archive(target, samples, overwrite=overwrite, progress=progress)
    except RaggedError as error:
        if not may_change:
            raise
        folder = target.with_suffix("")
        write_folder(folder, samples, progress=progress)
        return folder, (f"A folder with a file per sample, because {error.what}.",)
    return target, ()
