"""What calibration samples must be like for their ranges to mean anything."""

from collections.abc import Collection, Mapping

from onnxopt.errors import DataError
from onnxopt.quantization.histogram import Extremes


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
