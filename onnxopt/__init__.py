"""onnxopt: make an ONNX model smaller and faster inside an accuracy budget, with the measurements that prove it."""
