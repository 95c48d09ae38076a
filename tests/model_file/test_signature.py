"""What a model takes and gives."""

import numpy as np
import pytest
from onnx import TensorProto

from onnxopt.model_file import Signature, TensorSpec, probe_feeds, signature_of
from tests import builders
from tests.builders import Net


def test_listed_weights_are_no_inputs() -> None:
    assert [s.name for s in signature_of(builders.listed_weights(8)).inputs] == ["x"]


def test_types_and_shapes() -> None:
    signature = signature_of(builders.BUILDERS["embedding"]())
    assert signature.inputs == (
        TensorSpec("ids", "int64", ("batch", "time")),
        TensorSpec("mask", "int64", ("batch", "time")),
    )
    assert signature.outputs == (TensorSpec("y", "float32", ("batch", "time", 16)),)
    assert str(signature) == "ids: int64[batch, time]; mask: int64[batch, time]"


def test_a_map_is_an_object() -> None:
    label, maps = signature_of(builders.BUILDERS["zipmap"]()).outputs
    assert (label.dtype, maps.dtype) == ("int64", "object")


@pytest.mark.parametrize(
    ("kind", "name"), [(TensorProto.STRING, "str"), (TensorProto.FLOAT16, "float16"), (TensorProto.BOOL, "bool")]
)
def test_type_names(kind: int, name: str) -> None:
    net = Net(0)
    net.node("Identity", "x", out="y")
    signature = signature_of(net.model([("x", kind, ["n", -1, 3])], [("y", kind, ["n", -1, 3])]))
    assert signature.inputs == (TensorSpec("x", name, ("n", None, 3)),)
    feeds = probe_feeds(signature, sizes={"n": 4})
    assert feeds["x"].shape == (4, 2, 3)
    assert feeds["x"].dtype == (object if name == "str" else np.dtype(name))


def test_probe_feeds_are_the_same_for_the_same_seed() -> None:
    signature = Signature((TensorSpec("x", "float32", (None, 3)), TensorSpec("i", "int64", (None,))), ())
    one, same, other = (probe_feeds(signature, seed=s) for s in (1, 1, 2))
    assert all(np.array_equal(one[k], same[k]) for k in one)
    assert not np.array_equal(one["x"], other["x"])
    assert set(np.unique(one["i"])) <= {0, 1}
