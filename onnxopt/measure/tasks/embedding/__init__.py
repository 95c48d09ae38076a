"""Embeddings: vectors for neighbour search, judged by direction, length and preserved neighbours."""

from onnxopt.measure.tasks.embedding.agreement import EmbeddingAgreement
from onnxopt.measure.tasks.embedding.recognition import comparison, recognize

__all__ = ["EmbeddingAgreement", "comparison", "recognize"]
