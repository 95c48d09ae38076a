"""Segmentation: a class for every pixel, judged by intersection over union."""

from onnxopt.measure.tasks.segmentation.agreement import SegmentationAgreement
from onnxopt.measure.tasks.segmentation.recognition import comparison, recognize

__all__ = ["SegmentationAgreement", "comparison", "recognize"]
