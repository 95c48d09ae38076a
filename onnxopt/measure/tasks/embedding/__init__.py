"""Embeddings: vectors that are searched for neighbours, judged by direction, length and neighbours kept."""

from onnxopt.measure.tasks.embedding.agreement import EmbeddingAgreement
from onnxopt.measure.tasks.embedding.recognition import comparison, recognize

__all__ = ["EmbeddingAgreement", "comparison", "recognize"]
