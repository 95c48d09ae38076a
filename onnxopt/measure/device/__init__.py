"""Measurement on another machine: a kit that needs only onnxruntime and numpy there."""
