"""Quantize one model with one quantizer: runs in that quantizer's own environment, with nothing of this project needed.

    PYTHON bench/peers_quantize.py MAKER MODEL.onnx SAMPLES.npz OUT.onnx

`SAMPLES.npz` holds one array per sample and input, named `INDEX/INPUT`. Beside OUT.onnx a JSON file is written with the
seconds it took, how far memory grew meanwhile, and the version. Each quantizer is called as its documentation shows.
"""

import ast
import inspect
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import numpy as np

Feeds = list[dict[str, np.ndarray]]


def ours(model: str, samples: Feeds, out: str, effort: str = "normal") -> None:
    """Quantize with `onnxopt quantize --mode auto --task classification`."""
    import onnxopt

    tasks = onnxopt.TaskOptions((("", "classification"),))  # without labels, logits may be numbers of any kind
    onnxopt.quantize(model, samples, out=out, mode="auto", effort=effort, tasks=tasks, overwrite=True)


def ours_high(model: str, samples: Feeds, out: str) -> None:
    """Quantize with `onnxopt quantize --mode auto --effort high`."""
    ours(model, samples, out, "high")


def ort_default(model: str, samples: Feeds, out: str) -> None:
    """Quantize with every option of ONNX Runtime's static quantizer at its default."""
    from onnxruntime.quantization import quantize_static

    quantize_static(model, out, _reader(samples))


def ort_u8s8(model: str, samples: Feeds, out: str) -> None:
    """Quantize with unsigned activations and signed per-channel weights, QDQ, MinMax: the advice for x86."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        model,
        out,
        _reader(samples),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod.MinMax,
    )


def ort_dynamic(model: str, samples: Feeds, out: str) -> None:
    """Quantize with ONNX Runtime's dynamic quantizer, signed per-channel weights."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(model, out, weight_type=QuantType.QInt8, per_channel=True)


def nncf(model: str, samples: Feeds, out: str) -> None:
    """Quantize with `nncf.quantize`."""
    import nncf
    import onnx

    loaded = onnx.load(model)
    onnx.save(nncf.quantize(loaded, nncf.Dataset(samples), subset_size=len(samples)), out)


def onnxsim(model: str, samples: Feeds, out: str) -> None:
    """Simplify and quantize with onnxsim's static quantizer."""
    _onnxsim(model, samples, out, full_graph=False)


def onnxsim_full(model: str, samples: Feeds, out: str) -> None:
    """Simplify and quantize with onnxsim's static quantizer, every activation."""
    _onnxsim(model, samples, out, full_graph=True)


def _onnxsim(model: str, samples: Feeds, out: str, *, full_graph: bool) -> None:
    import onnx
    import onnxsim

    simplified = onnxsim.simplify(model)
    simplified = simplified[0] if isinstance(simplified, tuple) else simplified
    onnx.save(onnxsim.quantize_static(simplified, samples, full_graph=full_graph), out)


def neural_compressor(model: str, samples: Feeds, out: str) -> None:
    """Quantize with onnx-neural-compressor's static quantizer."""
    from onnx_neural_compressor.quantization import config, quantize

    quantize(model, out, config.StaticQuantConfig(calibration_data_reader=_reader(samples)))


def olive(model: str, samples: Feeds, out: str) -> None:
    """Quantize with Olive's static pass."""
    import tempfile

    import onnx
    from olive.data.config import DataComponentConfig, DataConfig
    from olive.data.registry import Registry
    from olive.hardware.accelerator import DEFAULT_CPU_ACCELERATOR
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxStaticQuantization

    Registry.register_dataset("given")(lambda **_: [(feeds, 0) for feeds in samples])
    Registry.register_dataloader("as_given")(lambda dataset, **_: dataset)
    parts = {"load_dataset": "given", "dataloader": "as_given"}
    parts |= {f"{name}_process_data": f"skip_{name}_process" for name in ("pre", "post")}
    data = {f"{part}_config": DataComponentConfig(type=kind) for part, kind in parts.items()}
    chosen = {"data_config": DataConfig(name="samples", **data)}
    made = create_pass_from_dict(
        OnnxStaticQuantization, chosen, disable_search=True, accelerator_spec=DEFAULT_CPU_ACCELERATOR
    )
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(onnx.load(made.run(ONNXModelHandler(model), folder).model_path), out)


def onnxslim(model: str, samples: Feeds, out: str) -> None:
    """Simplify with onnxslim; the model stays in float."""
    import onnx
    import onnxslim

    onnx.save(onnxslim.slim(model), out)


MAKERS: Mapping[str, tuple[Callable[[str, Feeds, str], None], str]] = MappingProxyType(
    {
        "onnxopt": (ours, "onnxopt"),
        "onnxopt-high": (ours_high, "onnxopt"),
        "ort-default": (ort_default, "onnxruntime"),
        "ort-u8s8": (ort_u8s8, "onnxruntime"),
        "ort-dynamic": (ort_dynamic, "onnxruntime"),
        "nncf": (nncf, "nncf"),
        "onnxsim": (onnxsim, "onnxsim"),
        "onnxsim-full": (onnxsim_full, "onnxsim"),
        "onnxslim": (onnxslim, "onnxslim"),
        "neural-compressor": (neural_compressor, "onnx-neural-compressor"),
        "olive": (olive, "olive-ai"),
    }
)
"""By name: the function that calls it, and its package."""


MODULES: Mapping[str, str] = MappingProxyType({"onnx-neural-compressor": "onnx_neural_compressor", "olive-ai": "olive"})
"""Names to import, where they differ from the package's."""


def lines_of(maker: str) -> int:
    """Return the number of lines that a user writes to call a quantizer, as counted in this file."""
    helpers = {"onnxopt-high": [ours], "onnxsim": [_onnxsim], "onnxsim-full": [_onnxsim]}
    helpers |= {name: [_reader] for name in ("ort-default", "ort-u8s8", "neural-compressor")}
    functions = [ast.parse(inspect.getsource(f)).body[0] for f in (MAKERS[maker][0], *helpers.get(maker, ()))]
    bodies = [f.body for f in functions if isinstance(f, ast.FunctionDef)]
    statements = [
        line for body in bodies for line in body if not isinstance(getattr(line, "value", None), ast.Constant)
    ]
    return sum(len(ast.unparse(line).splitlines()) for line in statements)


def _reader(samples: Feeds) -> object:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rewind()

        def rewind(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    return Reader()


def read_feeds(path: str) -> Feeds:
    """Return the samples in a file, each with its batch axis."""
    feeds: dict[int, dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            index, _, name = key.partition("/")
            feeds.setdefault(int(index), {})[name] = arrays[key]
    return [feeds[index] for index in sorted(feeds)]


def main() -> int:
    if len(sys.argv) != 5 or sys.argv[1] not in MAKERS:
        print(f"PYTHON bench/peers_quantize.py MAKER MODEL.onnx SAMPLES.npz OUT.onnx; makers: {', '.join(MAKERS)}")
        return 2
    maker, model, data, out = sys.argv[1:]
    make, package = MAKERS[maker]
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    samples = read_feeds(data)
    __import__("onnxruntime.quantization")
    __import__(MODULES.get(package, package))
    before = _memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    start = time.perf_counter()
    make(model, samples, out)
    seconds = time.perf_counter() - start
    facts = {
        "seconds": round(seconds, 2),
        "peak_mb": round(_memory_mb("VmHWM") - before, 1),
        "package": package,
        "version": metadata.version(package),
    }
    Path(out).with_suffix(".json").write_text(json.dumps(facts))
    return 0


def _memory_mb(kind: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
