"""Signals: sound or images as output, judged by their error relative to their own spread."""

from onnxopt.measure.tasks.signal.agreement import SignalAgreement
from onnxopt.measure.tasks.signal.recognition import comparison, recognize

__all__ = ["SignalAgreement", "comparison", "recognize"]
