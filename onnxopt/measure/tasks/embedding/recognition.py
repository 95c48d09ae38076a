"""Recognition of embeddings by evidence."""

from collections.abc import Sequence

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, is_float, without_ones
from onnxopt.measure.tasks.embedding.agreement import EmbeddingAgreement, vectors_of
from onnxopt.measure.tasks.evidence import ends_of, named_like, only_output
from onnxopt.measure.tasks.task import ModelFacts, Recognized, TaskOptions
from onnxopt.samples import Feeds

_NAMES = ("embed", "pooler", "pooled", "sentence", "descriptor", "fingerprint")

_NARROWEST = 8


def recognize(outputs: Outputs, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
    """Return an embedding where an output is a table of vectors, by its name or rows of length 1; else None."""
    for name, value in outputs.items():
        if not is_float(value):
            continue
        table = without_ones(np.asarray(value, dtype=np.float64))
        if table.ndim != 2 or table.shape[1] < _NARROWEST or not np.isfinite(table).all():
            continue
        # Probabilities are not vectors, although the rows of a confident classifier have a length near 1.
        signed = bool(table.min() < 0)
        if ends_of(facts, name)[:1] in (("Softmax",), ("LogSoftmax",), ("Sigmoid",)):
            continue
        if signed and np.allclose(np.linalg.norm(table, axis=1), 1, atol=1e-3):
            reason = f"the vectors of {name!r} have length 1"
        elif "LpNormalization" in ends_of(facts, name)[:1]:
            reason = f"{name!r} ends in LpNormalization"
        elif named_like(name, _NAMES):
            reason = f"{name!r} is called so"
        else:
            continue
        if table.shape[1] <= 8192:
            return Recognized("embedding", (name,), EmbeddingAgreement(name), reason)
    return None


def comparison(
    outputs: Outputs, names: Sequence[str], facts: ModelFacts, options: TaskOptions, feeds: Feeds | None = None
) -> EmbeddingAgreement:
    """Return the comparison of two embeddings, requested by the user.

    Raises:
        DataError: ONX209 no output is a table of vectors.
    """
    name = only_output(outputs, names, lambda v: is_float(v) and without_ones(v).ndim == 2, "a table of vectors")
    vectors_of(outputs, name)
    return EmbeddingAgreement(name)
