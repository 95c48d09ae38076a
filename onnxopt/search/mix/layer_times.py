"""Time of each layer inside its model, measured once per machine."""

import hashlib
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.measure.latency.latency_table import fastest_ms, machine_name
from onnxopt.measure.latency.remembered import Remembered
from onnxopt.measure.runtime.session import Runtime
from onnxopt.quantization.placement.node_times import layer_times_ms
from onnxopt.samples import Feeds

_PROFILES, _SECONDS = 4, 5.0
"""Most profiles of a form, and seconds after which no further ones begin."""
_HOW = "fastest quarter"
"""How kernels are timed; a profile that was made otherwise is measured again."""
_FACTOR = re.compile(r"_factor\d+(_\d+)?$")
Times = dict[str, float]


def layer_of(name: str) -> str:
    """Return the layer to which a node of a chain of factors belongs; any other node is its own layer."""
    return _FACTOR.sub("", name)


class TimedForm(NamedTuple):
    """A float model, whose nodes name the layers, and the model made from it that runs."""

    model: ir.Model
    made: ir.Model


class LayerTimes:
    """Times of layers inside models, cached in a file per machine by the contents of the models.

    Args:
        folder: folder of the file; None for no cache.
        runtime: configuration of ONNX Runtime.
    """

    def __init__(self, folder: Path | None, runtime: Runtime) -> None:
        self._runtime = runtime
        path = None if folder is None else folder / f"layers-{machine_name(runtime)}.json"
        self._known = Remembered[list[Times]](path, lambda found: isinstance(found, list))

    def of(self, forms: Sequence[TimedForm], feeds: Feeds, *, conversions: bool = False) -> list[Times]:
        """Return the milliseconds of each layer in each form; their sum is the time of the form.

        Whole forms are timed in alternating runs; the time of each is divided among its layers by the runtime's
        profile. Forms are profiled by turns, and the shortest time of a layer counts: other programs only lengthen it.

        Args:
            forms: forms with the same inputs; a chain of factors counts as its layer.
            feeds: one batch.
            conversions: whether conversions between integers and floats count for the layers that need them; else they
                are divided among all.

        Raises:
            ModelError: ONX304 the runtime cannot load a form.
            NativeError: ONX401 a form cannot be run.
        """
        key = _key(forms, feeds)
        key = None if key is None else f"{key} with conversions" if conversions else key
        if key is not None and key in self._known:
            return self._known[key]
        wholes = fastest_ms([form.made for form in forms], feeds, self._runtime)
        found = []
        for whole, parts in zip(wholes, self._profiled(forms, feeds, conversions), strict=True):
            total = sum(parts.values())
            # Time outside layers, such as kernel starts, is divided among them.
            found.append({name: ms * whole / total for name, ms in parts.items()} if total else {"": whole})
        if key is not None:
            self._known.keep({key: found})
        return found

    def _profiled(self, forms: Sequence[TimedForm], feeds: Feeds, conversions: bool) -> list[Times]:
        """Return the shortest time of each layer in a few profiles of each form."""
        shortest, begun = [Times() for _ in forms], time.monotonic()
        for _ in range(_PROFILES):
            for form, known in zip(forms, shortest, strict=True):
                parts = defaultdict[str, float](float)
                times = layer_times_ms(form.model, form.made, feeds, self._runtime, conversions=conversions)
                for name, ms in times.items():
                    parts[layer_of(name)] += ms
                known |= {name: min(ms, known.get(name, ms)) for name, ms in parts.items()}
            if time.monotonic() - begun > _SECONDS:
                break
        return shortest


def _key(forms: Sequence[TimedForm], feeds: Feeds) -> str | None:
    digest = hashlib.sha256(repr((_HOW, sorted((n, a.shape, str(a.dtype)) for n, a in feeds.items()))).encode())
    for form in forms:
        if not model_file.fits_protobuf(form.made):
            return None
        digest.update(model_file.digest(form.made).encode())
    return digest.hexdigest()
