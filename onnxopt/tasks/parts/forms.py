"""Forms of the parts of a folder: the files of one part, made by one pipeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from onnxopt import model_file
from onnxopt.catalog import parse
from onnxopt.errors import OnnxoptError
from onnxopt.measure.runtime.session import Loadable
from onnxopt.measure.runtime.written import proof
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pipeline
from onnxopt.record.provenance import provenance

FORMS: Mapping[str, str] = MappingProxyType(
    {
        "dynamic INT8": "simplify,quantize-dynamic",
        "8 bits": "simplify,quantize-weights{bits=8,method=hqq}",
        "4 bits": "simplify,quantize-weights{bits=4,method=hqq}",
    }
)


@dataclass(frozen=True)
class PartForm:
    """The files of one part in one form.

    Attributes:
        part: the name of the part.
        name: the name of the form.
        passes: the pipeline; where files have different ones, each behind the name of its file.
        files: the file made from each file of the part.
    """

    part: str
    name: str
    passes: str
    files: Mapping[Path, Path]

    @property
    def used(self) -> dict[Path, Loadable]:
        """The files by those that they replace."""
        return dict(self.files)

    @property
    def size_bytes(self) -> int:
        """The size of all files with their data."""
        return sum(model_file.size_of(file) for file in self.files.values())


def make_form(
    part: str, files: Sequence[Path], name: str, passes: str | Mapping[Path, str], *, place: Path, context: Context
) -> PartForm | str:
    """Make the files of a part in a form; return the reason where that cannot be done.

    Args:
        part: the name of the part.
        files: its files.
        name: the name of the form.
        passes: the pipeline, each file of which has to have a layer for it, or that of each file; then a file whose
            pipeline only simplifies stays as it is.
        place: a folder for files.
        context: for passes.
    """
    made = dict[Path, Path]()
    each = dict.fromkeys(files, passes) if isinstance(passes, str) else passes
    for number, path in enumerate(files):
        if all(isinstance(one, Simplify) for one in parse(each[path])):
            made[path] = path
            continue
        source = model_file.load(path)
        try:
            done = Pipeline(parse(each[path])).run(source, context)
            if not any(step.edits for step in done.steps if not isinstance(step.spec, Simplify)):
                return f"no layer of {path.name} takes this form"
            out = place / part / name.replace(" ", "-") / str(number) / path.name
            out.parent.mkdir(parents=True, exist_ok=True)
            made[path] = model_file.save(done.model, out, provenance=provenance(each[path], path), proof=proof(source))[
                0
            ]
        except OnnxoptError as error:
            return f"{path.name}: {error.what}"
    said = passes if isinstance(passes, str) else _said(passes)
    return PartForm(part, name, said, made)


def _said(passes: Mapping[Path, str]) -> str:
    """Return the pipelines of files as one text; where all have the same one, that."""
    different = set(passes.values())
    return different.pop() if len(different) == 1 else "; ".join(f"{p.name}: {text}" for p, text in passes.items())
