"""Forms of the parts of a folder: the files of one part, made by one pipeline."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import parse
from onnxopt.errors import OnnxoptError
from onnxopt.measure.runtime.session import Loadable
from onnxopt.measure.runtime.written import proof
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pipeline
from onnxopt.record.provenance import provenance

Proof = Callable[[Path], None]
"""Looks at a file that is about to take its place, and raises if it must not."""

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
        return model_file.size_together(self.files.values())


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
    each = dict.fromkeys(files, passes) if isinstance(passes, str) else passes
    changed = {path: each[path] for path in files if not _only_simplifies(each[path])}
    try:
        made = _saved(changed, place / part / name.replace(" ", "-"), context)
    except _LeftError as left:
        return left.reason
    said = passes if isinstance(passes, str) else _said(passes)
    return PartForm(part, name, said, {path: made.get(path, path) for path in files})


class _LeftError(Exception):
    """A file that does not take a form."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _only_simplifies(passes: str) -> bool:
    return all(isinstance(one, Simplify) for one in parse(passes))


def _saved(passes: Mapping[Path, str], folder: Path, context: Context) -> dict[Path, Path]:
    """Save files behind their pipelines; those that have their weights in one file do so again."""
    made, data = dict[Path, Path](), model_file.shared_data(passes)
    if data is None:
        for number, path in enumerate(passes):
            with _naming(path):
                model, look = _built(path, passes[path], context)
                out = folder / str(number) / path.name
                out.parent.mkdir(parents=True, exist_ok=True)
                about = provenance(passes[path], path)
                made[path] = model_file.save(model, out, provenance=about, proof=look)[0]
        return made
    built = dict[Path, tuple[ir.Model, Proof]]()
    for path in passes:
        with _naming(path):
            built[path] = _built(path, passes[path], context)
    with _naming(data):
        folder.mkdir(parents=True, exist_ok=True)
        files = model_file.save_together(
            {path.name: model for path, (model, _) in built.items()},
            folder,
            data.name,
            provenance={path.name: provenance(text, path) for path, text in passes.items()},
            proofs={path.name: look for path, (_, look) in built.items()},
        )
    return dict(zip(passes, files, strict=True))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn errors into the reason why a file does not take a form."""
    try:
        yield
    except OnnxoptError as error:
        raise _LeftError(f"{path.name}: {error.what}") from error


def _built(path: Path, passes: str, context: Context) -> tuple[ir.Model, Proof]:
    """Return a file behind its pipeline, and the check of the new file."""
    source = model_file.load(path)
    done = Pipeline(parse(passes)).run(source, context)
    if not any(step.edits for step in done.steps if not isinstance(step.spec, Simplify)):
        raise _LeftError(f"no layer of {path.name} takes this form")
    return done.model, proof(source)


def _said(passes: Mapping[Path, str]) -> str:
    """Return the pipelines of files as one text; where all have the same one, that."""
    different = set(passes.values())
    return different.pop() if len(different) == 1 else "; ".join(f"{p.name}: {text}" for p, text in passes.items())
