"""The samples that decide whether a fit is kept are no samples that it was fitted to, where there are enough."""

from dataclasses import replace

import pytest

from onnxopt.quantization.held_out import fitted_and_held_out
from tests import builders


@pytest.mark.parametrize(("count", "held_out"), [(5, 1), (9, 1), (10, 2), (64, 12)])
def test_one_sample_in_five_decides(count, held_out):
    samples = builders.samples_of(builders.BUILDERS["gemm_mlp"](), count=count)
    fitted, judge = fitted_and_held_out(samples)
    assert (len(fitted), len(judge)) == (count - held_out, held_out)
    assert set(fitted.indices).isdisjoint(judge.indices)
    again = fitted_and_held_out(samples)
    assert [list(part.indices) for part in again] == [list(fitted.indices), list(judge.indices)]


def test_fewer_than_five_samples_and_a_batch_that_is_fixed_are_not_split():
    samples = builders.samples_of(builders.BUILDERS["gemm_mlp"](), count=4)
    assert fitted_and_held_out(samples) == (samples, samples)
    fixed = replace(builders.samples_of(builders.BUILDERS["gemm_mlp"](), count=20), fixed_batch=True)
    assert fitted_and_held_out(fixed) == (fixed, fixed)
