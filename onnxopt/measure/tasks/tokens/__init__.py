"""Tokens: a language model's next tokens, judged by divergence from the baseline."""

from onnxopt.measure.tasks.tokens.agreement import TokenAgreement
from onnxopt.measure.tasks.tokens.recognition import comparison, recognize

__all__ = ["TokenAgreement", "comparison", "recognize"]
