"""One call for all frameworks: their exporter, our checks, a clean-up, the file."""

import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.document import units
from onnxopt.document.blocks import Displayed, Document, Facts, Text
from onnxopt.errors import ModelError, OnnxoptError, UsageError, first_line, nearest
from onnxopt.exporters.converted import Converted, Wanted
from onnxopt.exporters.sources import FRAMEWORKS, converter, source_of
from onnxopt.exporters.verify import TOLERANCE, Verified, verify
from onnxopt.measure.runtime.written import loads
from onnxopt.model_file.ort_format import write_ort
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pipeline
from onnxopt.record.provenance import provenance
from onnxopt.samples import Feeds
from onnxopt.target import target_of


@dataclass(frozen=True)
class Exported(Displayed):
    """A model made from another framework's.

    Attributes:
        model: the graph, verified.
        framework: the framework of the source.
        exporter: the exporter that wrote the graph.
        versions: the versions of the packages that took part.
        verified: its distance from the source.
        example: one batch it was compared on, by input name.
        files: the written files; empty without an output.
        notes: notes for the user.
    """

    model: ir.Model
    framework: str
    exporter: str
    versions: Mapping[str, str]
    verified: Verified
    example: Feeds = field(repr=False)
    files: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def document(self) -> Document:
        """The source, the files, the distance between both."""
        return exported_document(self)


def export(
    source: Any,
    *,
    out: str | Path | None = None,
    inputs: Any = None,
    framework: str = "auto",
    exporter: str = "auto",
    opset: int | None = None,
    fixed_batch: bool = False,
    simplify: bool = True,
    tolerance: float = TOLERANCE,
    target: str = "auto",
    seed: int = 0,
    overwrite: bool = False,
) -> Exported:
    """Export a model of torch, Keras, TensorFlow, scikit-learn, XGBoost, LightGBM, JAX or Paddle, and verify it.

    The framework's own exporter writes the graph; it is checked, compared with the source in ONNX Runtime, simplified,
    and compared again. Opening `file.py:function` or a pickle runs the code in it.

    Args:
        source: a model object, a file, a folder, or `file.py:function` that returns `(model, inputs)`.
        out: file to write, `.onnx`, or `.ort` for mobile; None for none.
        inputs: one batch of example inputs: an array, several in order, or several by name.
        framework: `auto`, or one of `torch`, `keras`, `saved-model`, `tflite`, `sklearn`, `xgboost`, `lightgbm`, `jax`,
            `paddle`.
        exporter: the exporter of torch: `dynamo` or `torchscript`; `auto` tries them in this order.
        opset: version of the standard operator set; None for the exporter's own choice.
        fixed_batch: whether inputs keep the batch size of the example; else their first axis is open.
        simplify: whether to fold constants and batch norms.
        tolerance: largest difference of an output, relative to its largest magnitude.
        target: processor that an `.ort` file is for; `auto` is ARM.
        seed: the seed of synthetic inputs.
        overwrite: whether to replace an existing `out`.

    Raises:
        UsageError: ONX101 to ONX111 the source or an option cannot be used, a package is missing.
        ModelError: ONX311 the framework's exporter failed, ONX312 the model gives other outputs than its source.
        FileError: a file cannot be read or written.
    """
    if out is not None:
        refuse_output_file(Path(out), overwrite=overwrite, source=None)
        _refuse_suffix(Path(out))
    if framework not in ("auto", *FRAMEWORKS):
        raise UsageError("ONX101", "unknown framework", where=framework, hint=nearest(framework, FRAMEWORKS))
    with _quiet():
        found, opened_source, own_inputs = source_of(source)
        wanted = Wanted(own_inputs if inputs is None else inputs, exporter, opset, not fixed_batch, seed)
        chosen = found if framework == "auto" else framework
        converted = _converted(chosen, opened_source, wanted)
        # The batch size of a TFLite file is that of the file.
        free = not fixed_batch and _batch_is_open(converted.model)
        options: dict[str, Any] = {"dynamic_batch": free, "tolerance": tolerance, "seed": seed}
        model, verified = converted.model, verify(converted.model, converted, **options)
        notes = list(converted.notes)
        if not fixed_batch and not free:
            notes.append("the batch size is fixed in the source")
        if simplify:
            model, verified, note = _cleaned(converted, verified, options)
            notes += [note] if note else []
        if verified.rows_apart is not None and verified.rows_apart > tolerance:
            notes.append("rows of a batch influence each other: the first axis may not be the batch")
    files: tuple[Path, ...] = ()
    if out is not None:
        files = _saved(model, Path(out), converted.exporter, target, overwrite=overwrite)
    return Exported(
        model, chosen, converted.exporter, converted.versions, verified, converted.example, files, tuple(notes)
    )


def to_ort(model: str | Path, out: str | Path, *, target: str = "auto", overwrite: bool = False) -> tuple[Path, Path]:
    """Write an ONNX file as `.ort` for mobile builds of ONNX Runtime, with the list of operators such a build needs.

    Raises:
        FileError: ONX501 the model does not exist, ONX502 the output exists.
        ModelError: ONX303 its external data lies elsewhere, ONX304 ONNX Runtime cannot load it, ONX305 it is invalid.
    """
    refuse_output_file(Path(out), overwrite=overwrite, source=Path(model))
    _refuse_suffix(Path(out), only=".ort")
    model_file.load(model)  # the runtime, which reads the file below, follows links out of its folder
    # Not the processor of this machine, unless it is named: `.ort` is for phones and boards.
    arm = target == "auto" or not target_of(target).name.startswith("x86")
    return write_ort(Path(model), Path(out), arm=arm, overwrite=overwrite)


def _converted(framework: str, source: Any, wanted: Wanted) -> Converted:
    convert = converter(framework)
    try:
        converted = convert(source, wanted)
    except OnnxoptError:
        raise
    except Exception as error:  # exporters raise whatever they like
        why = f"{type(error).__name__}: {first_line(error).rstrip('.')}"
        hint = "Try --fixed-batch or another --opset." if wanted.dynamic_batch else "Try another --opset."
        raise ModelError("ONX311", "the exporter failed", where=framework, why=why, hint=hint) from error
    return replace(converted, example={k: v for k, v in converted.example.items() if k in _names(converted.model)})


def _cleaned(converted: Converted, verified: Verified, options: Mapping[str, Any]) -> tuple[ir.Model, Verified, str]:
    """Simplify without fusing, which would raise the opset; a file that does not verify is not kept."""
    try:
        cleaned = Pipeline((Simplify(fuse=False),)).run(converted.model, Context(target_of("auto"))).model
        return cleaned, verify(cleaned, converted, **options), ""
    except OnnxoptError as error:
        return converted.model, verified, f"not simplified: {error.what}"


def _names(model: ir.Model) -> set[str]:
    return {spec.name for spec in model_file.signature_of(model).inputs}


def _batch_is_open(model: ir.Model) -> bool:
    shapes = [spec.shape for spec in model_file.signature_of(model).inputs]
    return any(shape is None or (bool(shape) and not isinstance(shape[0], int)) for shape in shapes)


def _refuse_suffix(out: Path, *, only: str | None = None) -> None:
    if out.suffix not in ((only,) if only else (".onnx", ".ort")):
        hint = "Name it .ort." if only else "Name it .onnx, or .ort for mobile."
        raise UsageError("ONX101", "unknown form of output", where=str(out), hint=hint)


def _saved(model: ir.Model, out: Path, exporter: str, target: str, *, overwrite: bool) -> tuple[Path, ...]:
    about = provenance("", None) | {"exporter": exporter}
    if out.suffix == ".onnx":
        return model_file.save(model, out, overwrite=overwrite, provenance=about, proof=loads)
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        path = Path(folder) / f"{out.stem}.onnx"
        model_file.save(model, path, provenance=about)
        return to_ort(path, out, target=target, overwrite=overwrite)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters print away from stdout, where results go, and their warnings to themselves."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def exported_document(made: Exported) -> Document:
    """Return the exported model and its difference from the source."""
    verified = made.verified
    apart = "not checked, the batch size is fixed" if verified.rows_apart is None else f"{verified.rows_apart:.1e}"
    pairs = {
        "source": made.framework,
        "exporter": f"{made.exporter}, {', '.join(f'{k} {v}' for k, v in made.versions.items())}",
        "opset": str(model_file.opset_of(made.model) or "none of the standard set"),
        "takes": str(model_file.signature_of(made.model)),
        "difference from the source": f"{verified.difference:.1e} of the largest output, {verified.batches} batches",
        "a row alone and among others": apart,
        "size": units.size(model_file.size_of(made.model)),
    }
    lines = [f"Note: {note}." for note in made.notes]
    if made.files:
        lines.append(f"Written: {', '.join(map(str, made.files))}.")
    data = {
        "framework": made.framework,
        "exporter": made.exporter,
        "versions": dict(made.versions),
        "difference": verified.difference,
        "rows_apart": verified.rows_apart,
        "notes": list(made.notes),
        "files": [str(file) for file in made.files],
    }
    return Document((Facts(tuple(pairs.items())), Text(tuple(lines))), data)
