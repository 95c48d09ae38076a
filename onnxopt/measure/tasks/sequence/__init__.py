"""Sequences: text decoded by CTC, or a class for every step."""

from onnxopt.measure.tasks.sequence.agreement import StepAgreement, TextAgreement
from onnxopt.measure.tasks.sequence.recognition import comparison, recognize

__all__ = ["StepAgreement", "TextAgreement", "comparison", "recognize"]
