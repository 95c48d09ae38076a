import numpy as np
import pytest

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import Signature, TensorSpec, signature_of
from onnxopt.model_file.signature import Dim
from onnxopt.samples.sequences import at_length, sequence_axes
from tests import builders
from tests.tasks.parts.seq2seq import decoder


def signature(**inputs: tuple[Dim, ...] | None) -> Signature:
    return Signature(tuple(TensorSpec(name, "int64", shape) for name, shape in inputs.items()), ())


@pytest.mark.parametrize(
    ("given", "axes"),
    [
        (signature(ids=("batch", "tokens"), mask=("batch", "tokens")), {"ids": (1,), "mask": (1,)}),
        (signature(ids=("batch", "length"), mask=("batch", 1, "length", "length")), {"ids": (1,), "mask": (2, 3)}),
        (signature(ids=("n", "m"), kind=("n", 4)), {"ids": (1,)}),
        (signature(x=("batch", "channels", "frames", "time_steps")), {"x": (3,)}),
        (signature(ids=(None, None), mask=(None, None)), {"ids": (1,), "mask": (1,)}),
        (signature(ids=("unk__4", "unk__5"), mask=("unk__6", "unk__7")), {"ids": (1,), "mask": (1,)}),
        (signature_of(builders.BUILDERS["transformer_17"]()), {"x": (1,)}),
        (signature_of(decoder(past=False)), {"input_ids": (1,)}),
        (signature(encoder_ids=("batch", "seq")), {"encoder_ids": (1,)}),
    ],
)
def test_the_axis_of_the_sequence_is_the_one_that_reads_like_it_or_the_only_one(
    given: Signature, axes: dict[str, tuple[int, ...]]
) -> None:
    assert sequence_axes(given) == axes


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (signature_of(builders.BUILDERS["residual_cnn"]()), "all sizes behind the first are fixed"),
        (signature(image=("batch", 3, None, None)), "those without a name"),
        (signature(image=("batch", 3, "height", "width")), "height, width"),
        (signature(ids=("batch", "seq"), past=("batch", "past_seq")), "seq, past_seq"),
        (signature(x=None), "all sizes behind the first are fixed"),
    ],
)
def test_a_model_without_one_such_axis_is_refused(given: Signature, why: str) -> None:
    with pytest.raises(UsageError, match=rf"(?s)ONX112.*{why}.*Leave the lengths out"):
        sequence_axes(given)


def test_sequences_are_cut_or_begin_again() -> None:
    feeds = {"ids": np.arange(6).reshape(2, 3), "mask": np.ones((2, 3, 3)), "kind": np.zeros((2, 5))}
    axes = {"ids": (1,), "mask": (1, 2)}
    longer, shorter = at_length(feeds, axes, 7), at_length(feeds, axes, 1)
    assert longer["ids"].tolist() == [[0, 1, 2, 0, 1, 2, 0], [3, 4, 5, 3, 4, 5, 3]]
    assert [array.shape for array in longer.values()] == [(2, 7), (2, 7, 7), (2, 5)]
    assert [array.shape for array in shorter.values()] == [(2, 1), (2, 1, 1), (2, 5)]
    assert feeds["ids"].shape == (2, 3)


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(DataError, match=r"ONX203.*no 4 steps.*past"):
        at_length({"past": np.zeros((1, 0, 3))}, {"past": (1,)}, 4)
