"""A search for a folder that is ready to run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxopt.measure.generation.speed import Length
from onnxopt.measure.runtime.session import Runtime
from onnxopt.options.search import Goal, SearchOptions
from onnxopt.pipeline import Context
from onnxopt.tasks.parts.roles import FolderParts
from onnxopt.tasks.parts.texts import ReadText
from onnxopt.tasks.parts.timing import PartsTiming


@dataclass(frozen=True)
class PartsJob:
    """A search that is ready to run.

    Attributes:
        parts: the folder.
        search: texts that choose.
        holdout: texts that prove.
        length: of the texts.
        timing: the texts that are generated for timing, and the weights of their parts.
        options: of the search.
        allowed: the largest accepted drop.
        context: for passes.
        place: a folder for files.
        runtime: configuration of ONNX Runtime.
    """

    parts: FolderParts
    search: Sequence[ReadText]
    holdout: Sequence[ReadText]
    length: Length
    timing: PartsTiming
    options: SearchOptions
    allowed: float
    context: Context
    place: Path
    runtime: Runtime

    @property
    def goal(self) -> Goal:
        """The figure to improve."""
        return self.options.goal or Goal.LATENCY
