"""Checks for authors of passes: `check_pass` holds a pass to the contract that every built-in pass keeps."""

from onnxopt.testing.contract import check_pass as check_pass
from onnxopt.testing.models import model_names as model_names
from onnxopt.testing.models import small_model as small_model
