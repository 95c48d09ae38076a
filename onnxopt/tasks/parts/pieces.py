"""The graphs of a part: its files, or the two branches of a merged decoder, of which each run takes one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.graph.branches import Branches, branches_of, merged
from onnxopt.tasks.parts.job import PartsJob


@dataclass(frozen=True)
class Pieces:
    """The graphs of a part.

    Attributes:
        models: the models, by file; those of branches by names that no file has, that of the first tokens first.
        around: file and model of a merged decoder, whose branches `models` are; None for files of their own.
    """

    models: Mapping[Path, ir.Model]
    around: tuple[Path, ir.Model] | None = None

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
    models = {path: model_file.load(path) for path in job.parts.files[part]}
    step = job.parts.chain.first[1]
    if job.parts.chain.first[0] in models and len(models) == 1 and step.switch:
        ((path, model),) = models.items()
        found = branches_of(model, step.switch)
        if found is not None:
            names = (path / "first tokens", path / "later tokens")
            return Pieces(dict(zip(names, (found.other, found.then), strict=True)), (path, model))
    return Pieces(models)
