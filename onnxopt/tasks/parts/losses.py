"""Divergences of a folder's texts with single matrices in another form, in every file that has them."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.generation.chain import Chain
from onnxopt.measure.generation.perplexity import shares_of
from onnxopt.measure.generation.speed import Length
from onnxopt.measure.tasks.tokens.scores import divergence
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.pipeline import Pass, Pipeline
from onnxopt.search.losses import Base
from onnxopt.tasks.parts.job import PartsJob
from onnxopt.tasks.parts.pieces import Pieces
from onnxopt.tasks.parts.twins import Twins

TEXTS = 8
"""Texts on which the divergence of single matrices is measured; that of a whole mix is measured on all."""


class ChainLosses:
    """Measures the mean divergence of a token in nats, with one file of a folder changed by passes.

    Args:
        job: the search.
        pieces: the graphs of the part.
        file: one of them, a file or a branch.
        twins: layers of other graphs with the same matrix, which change with it. What has a twin in an earlier one
            loses nothing here: it was measured there.
    """

    def __init__(self, job: PartsJob, pieces: Pieces, file: Path, twins: Twins) -> None:
        self._job, self._pieces, self._file, self._twins = job, pieces, file, twins
        self._texts = job.search[:TEXTS]
        self._expected = self._read(job.parts.chain)
        self._bases = dict[tuple[Path, Base], ir.Model]()

    def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Return the divergence by pass; infinite for a failed one."""
        return [self._of(base, spec) for spec in specs]

    def _of(self, base: Base, spec: Pass) -> float:
        assert isinstance(spec, QuantizeDynamic | QuantizeWeights)
        left = frozenset(spec.exclude) | self._twins.known(self._file)
        kept = {self._file: tuple(left), **self._twins.others(self._file, left)}
        try:
            made = {path: self._changed(path, base, replace(spec, exclude=names)) for path, names in kept.items()}
            changed = {path: model for path, model in made.items() if model is not None}
            if not changed:
                return 0.0
            found = self._read(self._job.parts.with_files(self._pieces.files(changed)))
        except (ModelError, NativeError):
            return inf
        nats = np.concatenate([divergence(*pair) for pair in zip(self._expected, found, strict=True)])
        return float(nats.mean())

    def _changed(self, path: Path, base: Base, spec: Pass) -> ir.Model | None:
        """Return a file changed by a pass; None if it changes nothing."""
        if (path, base) not in self._bases:
            self._bases[path, base] = Pipeline(base).run(self._pieces.models[path], self._job.context).model
        done = Pipeline((spec,)).run(self._bases[path, base], self._job.context)
        return done.model if done.steps[0].edits else None

    def _read(self, chain: Chain) -> list[np.ndarray]:
        """Return the log-probabilities behind the tokens of each text."""
        begin, new = chain.load(self._job.runtime), self._job.length.new
        return [
            shares_of(begin(text.start)[0], text.tokens, Length(len(text.start.tokens), new)) for text in self._texts
        ]
