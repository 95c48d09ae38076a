"""The names under which published files of one model are looked for, and the pipeline that makes each.

Sources are in docs/variants.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onnxopt.errors import UsageError, nearest

_HALF_INPUTS = "its inputs and outputs are float16, and those of compute-float16 stay float32"
_FUSED = "simplify,fuse-attention{form=runtime,verify=no}"
_SIGNED = "simplify,quantize-dynamic{weight_type=int8,reduce_range=no}"
_UNSIGNED = "simplify,quantize-dynamic{weight_type=uint8,reduce_range=no}"
_FOUR_BITS = "simplify,quantize-weights{bits=4,method=hqq}"


@dataclass(frozen=True)
class Variant:
    """One file of a convention.

    Attributes:
        label: its type, as the convention calls it.
        place: ending of the file's name, before `.onnx`; in a layout of folders the name of the folder.
        passes: the pipeline that makes it from the float32 file; empty if none does.
        why: the reason why none does.
        with_conv: the pipeline for models with convolutions, where the convention has another type for them.
    """

    label: str
    place: str
    passes: str = ""
    why: str = ""
    with_conv: str = ""


@dataclass(frozen=True)
class Convention:
    """A layout of published files.

    Attributes:
        name: the name of the program that reads it.
        variants: the variants in the order of the convention, without the float32 file.
        data: ending of the file with external data, behind the whole name of the model file.
        folders: whether each variant lies in a separate folder, with the side files.
    """

    name: str
    variants: tuple[Variant, ...]
    data: str
    folders: bool = False


CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        "transformers.js": Convention(
            "transformers.js",
            (
                Variant("fp16", "_fp16", "simplify,compute-float16"),
                Variant("q8", "_quantized", _SIGNED, with_conv=_UNSIGNED),
                Variant("int8", "_int8", _SIGNED),
                Variant("uint8", "_uint8", _UNSIGNED),
                Variant("q4", "_q4", _FOUR_BITS),
                Variant("q4f16", "_q4f16", f"{_FOUR_BITS},compute-float16"),
                Variant("bnb4", "_bnb4", "simplify,quantize-weights{bits=4,form=nf4,block=64}"),
            ),
            "_data",
        ),
        "sentence-transformers": Convention(
            "sentence-transformers",
            (
                Variant("O1", "_O1", "simplify{fuse=no}"),
                Variant("O2", "_O2", _FUSED),
                Variant("O3", "_O3", f"{_FUSED},approximate-gelu"),
                Variant("O4", "_O4", f"{_FUSED},approximate-gelu,compute-float16"),
                Variant("qint8 arm64", "_qint8_arm64", _SIGNED),
                Variant("quint8 avx2", "_quint8_avx2", _UNSIGNED),
                Variant("qint8 avx512", "_qint8_avx512", _SIGNED),
                Variant("qint8 avx512_vnni", "_qint8_avx512_vnni", _SIGNED),
            ),
            "_data",
        ),
        "genai": Convention(
            "genai",
            (
                Variant(
                    "cpu int4, accuracy level 4",
                    "cpu-int4-rtn-block-32-acc-level-4",
                    "simplify,quantize-weights{bits=4,method=rtn}",
                ),
                Variant(
                    "cpu int4", "cpu-int4-rtn-block-32", why="products of 4 bits are made with accuracy level 4 only"
                ),
                Variant("cuda fp16", "cuda-fp16", why=_HALF_INPUTS),
            ),
            ".data",
            folders=True,
        ),
    }
)

_ALSO = {
    "_q2": "q2", "_q1": "q1", "_q2f16": "q2f16", "_q1f16": "q1f16",
    "_qint8_quantized": "qint8", "_quint8_quantized": "quint8",
}  # fmt: skip
"""Endings that are read, and that no convention lists among its usual files."""

LABELS: Mapping[str, str] = MappingProxyType(
    {v.place: v.label for c in CONVENTIONS.values() if not c.folders for v in c.variants} | _ALSO
)
"""The type of a file, by the ending of its name; the longest ending counts."""


def convention_of(name: str) -> Convention:
    """Return the convention of this name.

    Raises:
        UsageError: ONX101 the name is unknown.
    """
    if name not in CONVENTIONS:
        raise UsageError("ONX101", "no such convention", where=name, hint=nearest(name, CONVENTIONS))
    return CONVENTIONS[name]


def ending_of(stem: str) -> str:
    """Return the ending of a file's name that states its type; "" without one."""
    return max((ending for ending in LABELS if stem.endswith(ending) and stem != ending), key=len, default="")
