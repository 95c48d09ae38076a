"""Checks of calibration samples."""

from collections.abc import Collection, Mapping

from onnxopt.errors import DataError
from onnxopt.quantization.calibration.histogram import Extremes


def require_variety(found: Mapping[str, Extremes], inputs: Collection[str], source: str) -> None:
    """Refuse samples in which no input varies, such as arrays of zeros.

    Args:
        found: extremes of activations and inputs over the samples.
        inputs: names of the model's inputs.
        source: what the user called the data.

    Raises:
        DataError: ONX205 every float input holds one value only.
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
"""Below so many samples a range says little of what will come."""


def findings(found: Mapping[str, Extremes], inputs: Collection[str], count: int) -> list[str]:
    """Return what weakens ranges without making them useless.

    Args:
        found: extremes of activations and inputs over the samples.
        inputs: names of the model's inputs.
        count: of the samples.
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
