"""ONNX graphs that learn: the only room with torch besides export."""

from onnxopt.extras import require

require("torch", "train", "training")
