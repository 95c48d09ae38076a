"""Samples to fit to, and samples that decide whether the fit is kept."""

from onnxopt.samples import Samples

SHARE = 5
"""One sample in so many is held out."""


def fitted_and_held_out(samples: Samples) -> tuple[Samples, Samples]:
    """Return the samples to fit to and those to decide on; the same where there are too few to split."""
    held_out = len(samples) // SHARE
    if not held_out or samples.fixed_batch:
        return samples, samples
    fitted, judge = samples.split((len(samples) - held_out, held_out), seed=0)
    return fitted, judge
