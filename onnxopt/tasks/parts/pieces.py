"""The graphs of a part: its files, or the two branches of a merged decoder, of which each run takes one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.graph.branches import Branches, branches_of, merged
from onnxopt.tasks.parts.job import PartsJob
from onnxopt.tasks.parts.roles import ENCODER


@dataclass(frozen=True)
class Pieces:
    """The graphs of a part.

    Attributes:
        models: the models, by file; those of branches by names that no file has, that of the first tokens first.
        around: file and model of a merged decoder, whose branches `models` are; None for files of their own.
        rest: further files of the part that hold the same weights and read no text here, such as the pair of decoders
            beside a merged one.
    """

    models: Mapping[Path, ir.Model]
    around: tuple[Path, ir.Model] | None = None
    rest: Mapping[Path, ir.Model] = field(default_factory=dict)

    def files(self, changed: Mapping[Path, ir.Model]) -> dict[Path, ir.Model]:
        """Return the models that replace files of the folder, where some graphs are changed.

        Raises:
            ModelError: ONX307 the branches of a merged decoder cannot have one opset.
        """
        if self.around is None:
            return dict(changed)
        path, model = self.around
        first, later = ({**self.models, **changed}[name] for name in self.models)
        return {path: merged(model, Branches(later, first))}


def pieces_of(job: PartsJob, part: str) -> Pieces:
    """Return the graphs of a part."""
    files, chain = job.parts.files[part], job.parts.chain
    models = {path: model_file.load(path) for path in files}
    if part == ENCODER:
        return Pieces(models)
    read = files[: 1 if chain.later is None else 2]
    rest = {path: model for path, model in models.items() if path not in read}
    path, step = read[0], chain.first[1]
    found = branches_of(models[path], step.switch) if step.switch else None
    if found is None:
        return Pieces({one: models[one] for one in read}, rest=rest)
    names = (path / "first tokens", path / "later tokens")
    return Pieces(dict(zip(names, (found.other, found.then), strict=True)), (path, models[path]), rest)
