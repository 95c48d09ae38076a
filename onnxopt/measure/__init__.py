"""Accuracy, fidelity, latency and memory of a model in ONNX Runtime."""
