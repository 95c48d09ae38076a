"""Labels of detectors: any number of boxes per sample, from the files of annotation tools."""

from onnxopt.samples.boxes.read import is_box_labels, read_boxes
from onnxopt.samples.boxes.record import ImageBoxes

__all__ = ["ImageBoxes", "is_box_labels", "read_boxes"]
