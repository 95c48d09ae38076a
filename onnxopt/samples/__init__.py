"""The data a model is calibrated, searched and judged with, from whatever form the user has it in."""

from onnxopt.samples.core import Batch, Feeds, Reader, Samples, Source

__all__ = ["Batch", "Feeds", "Reader", "Samples", "Source"]
