"""Signatures of the kinds of models that data is read for."""

from onnxopt.model_file import Signature, TensorSpec
from onnxopt.model_file.signature import Dim

SCORES = TensorSpec("scores", "float32", ("batch", 10))


def signature(*inputs: TensorSpec, output: TensorSpec = SCORES) -> Signature:
    return Signature(inputs, (output,))


def one(*shape: Dim, dtype: str = "float32", name: str = "x") -> Signature:
    return signature(TensorSpec(name, dtype, shape))


DIGITS = one("batch", 1, 8, 8)
TABULAR = one(None, 4)
IMAGES = one("batch", 3, 16, 16)
PAIR = signature(TensorSpec("a", "float32", ("batch", 3)), TensorSpec("b", "int64", ("batch", 2)))
TEXT = signature(
    TensorSpec("input_ids", "int64", ("batch", "seq")), TensorSpec("attention_mask", "int64", ("batch", "seq"))
)


def with_classes(model: Signature, count: Dim) -> Signature:
    return Signature(model.inputs, (TensorSpec("scores", "float32", ("batch", count)),))


VOICE = signature(
    TensorSpec("input", "float32", (None, None)),
    TensorSpec("state", "float32", (2, None, 8)),
    TensorSpec("rate", "int64", ()),
)
