"""Forms of the parts of a folder: the files of one part, made by one pipeline."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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
from onnxopt.tasks.parts.pieces import Pieces

Proof = Callable[[Path], None]
"""Looks at a file that is about to take its place, and raises if it must not."""

Build = Callable[[Path], tuple[ir.Model, Proof]]
"""Makes a file in another form, and the check of it."""

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
    part: str,
    files: Sequence[Path],
    name: str,
    passes: str | Mapping[Path, str],
    *,
    place: Path,
    context: Context,
    pieces: Pieces | None = None,
) -> PartForm | str:
    """Make the files of a part in a form; return the reason where that cannot be done.

    Args:
        part: the name of the part.
        files: its files.
        name: the name of the form.
        passes: one pipeline for all files, each of which needs a layer for it; or a pipeline for each graph in
            `pieces`, of which those that only simplify change nothing.
        place: a folder for files.
        context: for passes.
        pieces: the graphs of the part; None for its files.
    """
    each = dict.fromkeys(files, passes) if isinstance(passes, str) else passes
    said = passes if isinstance(passes, str) else _said(passes)
    changed = {graph: text for graph, text in each.items() if not _only_simplifies(text)}
    build, texts = partial(_built, passes=changed, context=context), changed
    if pieces is not None and pieces.around is not None:
        build, texts = partial(_merged, pieces, changed, context), _by_file(pieces, changed)
    try:
        made = _saved(texts, build, place / part / name.replace(" ", "-"))
    except _LeftError as left:
        return left.reason
    return PartForm(part, name, said, {path: made.get(path, path) for path in files})


class _LeftError(Exception):
    """A file that does not take a form."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _only_simplifies(passes: str) -> bool:
    return all(isinstance(one, Simplify) for one in parse(passes))


def _saved(texts: Mapping[Path, str], build: Build, folder: Path) -> dict[Path, Path]:
    """Make and save files, with their pipelines as text; those that have their weights in one file do so again."""
    made, data = dict[Path, Path](), model_file.shared_data(texts)
    if data is None:
        for number, path in enumerate(texts):
            with _naming(path):
                model, look = build(path)
                out = folder / str(number) / path.name
                out.parent.mkdir(parents=True, exist_ok=True)
                about = provenance(texts[path], path)
                made[path] = model_file.save(model, out, provenance=about, proof=look)[0]
        return made
    built = dict[Path, tuple[ir.Model, Proof]]()
    for path in texts:
        with _naming(path):
            built[path] = build(path)
    with _naming(data):
        folder.mkdir(parents=True, exist_ok=True)
        files = model_file.save_together(
            {path.name: model for path, (model, _) in built.items()},
            folder,
            data.name,
            provenance={path.name: provenance(text, path) for path, text in texts.items()},
            proofs={path.name: look for path, (_, look) in built.items()},
        )
    return dict(zip(texts, files, strict=True))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn errors into the reason why a file does not take a form."""
    try:
        yield
    except OnnxoptError as error:
        raise _LeftError(f"{path.name}: {error.what}") from error


def _built(path: Path, passes: Mapping[Path, str], context: Context) -> tuple[ir.Model, Proof]:
    """Return a file behind its pipeline, and the check of the new file."""
    source = model_file.load(path)
    return _changed(source, path.name, passes[path], context), proof(source)


def _by_file(pieces: Pieces, passes: Mapping[Path, str]) -> dict[Path, str]:
    """Return the pipelines of files, where those of branches are one text."""
    assert pieces.around is not None
    inside = {graph: text for graph, text in passes.items() if graph in pieces.models}
    found = {pieces.around[0]: _said(inside)} if inside else {}
    return {**found, **{path: text for path, text in passes.items() if path not in inside}}


def _merged(pieces: Pieces, passes: Mapping[Path, str], context: Context, path: Path) -> tuple[ir.Model, Proof]:
    """Return a merged decoder whose branches are behind their pipelines, or a file beside it; and its check."""
    assert pieces.around is not None
    if path != pieces.around[0]:
        return _built(path, passes, context)
    inside = {graph: text for graph, text in passes.items() if graph in pieces.models}
    changed = {graph: _changed(pieces.models[graph], graph.name, text, context) for graph, text in inside.items()}
    return pieces.files(changed)[path], proof(pieces.around[1])


def _changed(source: ir.Model, name: str, passes: str, context: Context) -> ir.Model:
    done = Pipeline(parse(passes)).run(source, context)
    if not any(step.edits for step in done.steps if not isinstance(step.spec, Simplify)):
        raise _LeftError(f"no layer of {name} takes this form")
    return done.model


def _said(passes: Mapping[Path, str]) -> str:
    """Return the pipelines of files as one text; where all have the same one, that."""
    different = set(passes.values())
    return different.pop() if len(different) == 1 else "; ".join(f"{p.name}: {text}" for p, text in passes.items())
