"""Integer convolutions of three channels get a fourth one; on ARM they stay."""

from collections import Counter

import numpy as np
import onnx_ir as ir

from onnxopt.repairs.integer_types import ActivationType
from onnxopt.repairs.unaligned import UnalignedChannels
from tests.repairs.quantized import ARM, X86, mended, qdq_cnn


def test_a_fourth_channel_is_added_and_outputs_stay_equal() -> None:
    model = qdq_cnn(activation=np.uint8)
    result, found = mended(UnalignedChannels(), model)
    assert found.where == ("first",)
    assert Counter(n.op_type for n in result.graph)["Pad"] == 1
    assert "w1" not in result.graph.initializers
    assert not UnalignedChannels().find(result, X86).sites


def test_the_kernels_of_arm_take_signed_activations() -> None:
    assert not UnalignedChannels().find(qdq_cnn(activation=np.uint8), ARM).sites


def test_zeros_move_with_the_type_of_the_integers() -> None:
    x86 = mended(UnalignedChannels(), qdq_cnn(activation=np.uint8, zero=200))[0]
    arm, found = mended(ActivationType(), x86, ARM)
    assert not found.left
    pad = next(node for node in arm.graph if node.op_type == "Pad")
    zero = pad.inputs[2]
    assert zero is not None
    assert zero.const_value is not None
    assert (zero.const_value.dtype, int(zero.const_value.numpy())) == (ir.DataType.INT8, 72)
