"""The data for calibration, search and judging of a model, read from many forms."""

from onnxopt.options.reading import ReadOptions
from onnxopt.samples.core import Batch, Feeds, Reader, Samples, Source
from onnxopt.samples.fit import fit
from onnxopt.samples.open import FORMS, open_samples
from onnxopt.samples.schema import schema_text

__all__ = [
    "FORMS",
    "Batch",
    "Feeds",
    "ReadOptions",
    "Reader",
    "Samples",
    "Source",
    "fit",
    "open_samples",
    "schema_text",
]
