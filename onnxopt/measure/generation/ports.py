"""The role of an input of a decoder, by its name, type and shape."""

from collections.abc import Sequence

from onnxopt.model_file import TensorSpec

_WHOLE = ("int32", "int64")


def one_input(specs: Sequence[TensorSpec], word: str) -> TensorSpec | None:
    """Return the input of whole numbers, batch by tokens, whose name has `word` and no word of another role."""
    others = {"mask", "position", "type"} - {word}
    fitting = [
        spec
        for spec in specs
        if spec.dtype in _WHOLE
        and len(spec.shape or ()) == 2
        and word in spec.name.lower()
        and not any(other in spec.name.lower() for other in others)
    ]
    return fitting[0] if len(fitting) == 1 else None
