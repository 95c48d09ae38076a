"""One optimization per file; this folder is the registry, see `onnxopt.catalog`."""
