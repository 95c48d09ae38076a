"""The one seam to ONNX Runtime sessions."""
