"""Checks of calibration samples."""

from collections.abc import Collection, Mapping

from onnxopt.errors import DataError
from onnxopt.quantization.calibration.histogram import Extremes


def require_variety(found: Mapping[str, Extremes], inputs: Collection[str], source: str) -> None:
    """Refuse samples whose inputs never vary, such as arrays of zeros.

    Args:
        found: extremes of activations and inputs over the samples.
        inputs: names of the model's inputs.
        source: the user's name of the data.

    Raises:
        DataError: ONX205 every float input holds only one value.
    """
    seen = {name: found[name] for name in inputs if name in found}
    if seen and all(extremes.low == extremes.high for extremes in seen.values()):
        values = ", ".join(f"{name} is {extremes.low:g} everywhere" for name, extremes in seen.items())
        raise DataError(
            "ONX205",
            "the calibration samples hold nothing to calibrate on",
            where=source,
            why=values,
            hint="Give samples like those that the model will see.",
        )


FEW = 8
"""With fewer samples a range predicts later values badly."""


def range_weaknesses(found: Mapping[str, Extremes], inputs: Collection[str], count: int) -> list[str]:
    """Return weaknesses of ranges that do not make them useless.

    Args:
        found: extremes of activations and inputs over the samples.
        inputs: names of the model's inputs.
        count: number of samples.
    """
    notes = []
    if count < FEW:
        samples = "1 sample" if count == 1 else f"{count} samples"
        notes.append(
            f"calibrated on {samples} only: values outside their ranges will be clipped; some dozens are better"
        )
    fixed = [name for name in inputs if name in found and found[name].low == found[name].high]
    notes += [f"the input {name} holds {found[name].low:g} in every calibration sample" for name in fixed]
    return notes
