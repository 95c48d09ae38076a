"""The files to write beside a model, decided and refused before anything is made."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from onnxopt.errors import FileError, UsageError, nearest
from onnxopt.model_file import refuse_existing
from onnxopt.model_file.writable import refuse_output_file, refuse_unwritable
from onnxopt.tasks.variants.conventions import Convention, Variant, ending_of
from onnxopt.tasks.variants.layout import CONFIG, file_names
from onnxopt.tasks.variants.side_files import CARD, side_files


@dataclass(frozen=True)
class Planned:
    """A file to make.

    Attributes:
        variant: the variant of the convention.
        path: the path of the file.
        data_name: the name of its external data.
    """

    variant: Variant
    path: Path
    data_name: str

    def passes(self, model: ir.Model) -> str:
        """Return the pipeline that makes it from `model`; "" if none does."""
        convolves = any(node.op_type == "Conv" for node in model.graph.all_nodes())
        return (self.variant.with_conv if convolves else "") or self.variant.passes


def planned(model: Path, convention: Convention, folder: Path, only: Sequence[str] | None) -> tuple[Planned, ...]:
    """Return the files of a convention, named after the model.

    Raises:
        UsageError: ONX101 `only` names a type that the convention lacks, or the model is such a file itself.
    """
    if not convention.folders and ending_of(model.stem):
        hint = "Name the float32 file."
        raise UsageError("ONX101", "the model is a variant itself, by its name", where=str(model), hint=hint)
    labels = [variant.label for variant in convention.variants]
    for label in only or ():
        if label not in labels:
            raise UsageError("ONX101", f"{convention.name} has no such type", where=label, hint=nearest(label, labels))
    chosen = [v for v in convention.variants if only is None or v.label in only]
    names = {
        v.label: folder / v.place / model.name if convention.folders else folder / f"{model.stem}{v.place}.onnx"
        for v in chosen
    }
    return tuple(Planned(v, names[v.label], names[v.label].name + convention.data) for v in chosen)


def refuse(
    model: Path, convention: Convention, folder: Path, plans: Iterable[Planned], *, overwrite: bool, data: object
) -> None:
    """Refuse files that cannot be written in the end.

    Raises:
        FileError: ONX501 there is no configuration of onnxruntime-genai, ONX502 a file exists, ONX503 it cannot be
            written, ONX504 it is read.
        UsageError: ONX101 the configuration names another file.
    """
    if convention.folders:
        _refuse_config(model)
    refuse_output_file(folder / CARD, overwrite=overwrite, source=model, read=[data], kind=".md")
    for plan in (p for p in plans if p.variant.passes):
        if plan.path.parent.exists():
            refuse_output_file(plan.path, overwrite=overwrite, source=model, read=[data])
            data_path = plan.path.with_name(plan.data_name)
            if data_path.exists():
                why = "external data is never replaced under the same name, for an older file may still read it"
                raise FileError("ONX502", "the output exists", where=str(data_path), why=why, hint="Remove it first.")
            if convention.folders and not overwrite:
                for file in side_files(model.parent):
                    refuse_existing(plan.path.parent / file.name, overwrite)
        else:
            refuse_unwritable(plan.path.parent)


def _refuse_config(model: Path) -> None:
    config = model.parent / CONFIG
    if not config.is_file():
        hint = "onnxruntime-genai reads the model's inputs, outputs and tokens from it: make it with its model builder."
        raise FileError("ONX501", "there is no configuration beside the model", where=str(config), hint=hint)
    named = sorted(set(file_names(config)))
    if model.name not in named:
        why = f"it names {', '.join(named) or 'no file'}, not {model.name}"
        raise UsageError("ONX101", "the configuration is that of another model", where=str(config), why=why)
