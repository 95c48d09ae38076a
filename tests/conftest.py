"""Settings of the whole suite."""

import warnings

import hypothesis

# Examples are the same on every run and no example is timed: a failure is a fact about the code, not about the machine.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("suite")

# ONNX Runtime's quantizer is chatty about its own deprecations.
warnings.filterwarnings("ignore", category=DeprecationWarning, module="onnxruntime.*")
