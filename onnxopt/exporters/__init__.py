"""From other frameworks to ONNX: each framework's own exporter, then the same checks for all."""
