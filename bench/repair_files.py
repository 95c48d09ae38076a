"""Make quantized files by every tool that is installed, for `bench/repair.py`.

    python bench/repair_files.py FOLDER

Each file is named `network--way.onnx`; the failures of tools are in `about.json` there. The tools are those of this
Python, which may be another than onnxopt's: some of them want older libraries.
"""

import argparse
import json
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.quantization as ortq
from repair_models import NETWORKS

BUNDLED = Path(__file__).parents[1] / "models"
CALIBRATION = 8


def inputs_of(model: onnx.ModelProto, count: int = CALIBRATION) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    weights = {w.name for w in model.graph.initializer}
    (given,) = [i for i in model.graph.input if i.name not in weights]
    shape = [d.dim_value or 1 for d in given.type.tensor_type.shape.dim]
    return [{given.name: rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]


class Reader(ortq.CalibrationDataReader):  # type: ignore[misc]
    """The reader interface of ONNX Runtime's quantizer, which other tools share."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.samples = inputs_of(model)
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)

    def rewind(self) -> None:
        self.left = iter(self.samples)


def runtime_static(**options: Any) -> Callable[[onnx.ModelProto, Path], None]:
    def make(model: onnx.ModelProto, out: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "model.onnx"
            onnx.save(model, source)
            ortq.quantize_static(source, out, Reader(model), **options)

    return make


def runtime_dynamic(model: onnx.ModelProto, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        onnx.save(model, source)
        ortq.quantize_dynamic(source, out)


def runtime_nbits(bits: int, qdq: bool) -> Callable[[onnx.ModelProto, Path], None]:
    def make(model: onnx.ModelProto, out: Path) -> None:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        form = ortq.QuantFormat.QDQ if qdq else ortq.QuantFormat.QOperator
        quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=32, quant_format=form)
        quantizer.process()
        onnx.save(quantizer.model.model, out)

    return make


def nncf_quantize(model: onnx.ModelProto, out: Path) -> None:
    import nncf

    onnx.save(nncf.quantize(model, nncf.Dataset(inputs_of(model)), subset_size=CALIBRATION), out)


def nncf_weights(model: onnx.ModelProto, out: Path) -> None:
    import nncf

    onnx.save(nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM), out)


def onnx_quantize(**options: Any) -> Callable[[onnx.ModelProto, Path], None]:
    def make(model: onnx.ModelProto, out: Path) -> None:
        from onnx_quantize import QConfig, quantize

        given = dict(options)
        if given.get("is_static"):
            given["calibration_data"] = next(iter(inputs_of(model, 1)[0].values()))
        onnx.save(quantize(model, QConfig(**given)), out)

    return make


def neural_compressor(kind: str) -> Callable[[onnx.ModelProto, Path], None]:
    def make(model: onnx.ModelProto, out: Path) -> None:
        from onnx_neural_compressor.quantization import algorithm_entry, config, quantize

        if kind == "rtn":
            onnx.save(algorithm_entry.rtn_quantize_entry(model, config.RTNConfig()), out)
            return
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "model.onnx"
            onnx.save(model, source)
            chosen = {
                "static": lambda: config.StaticQuantConfig(calibration_data_reader=Reader(model)),
                "dynamic": config.DynamicQuantConfig,
            }[kind]()
            quantize(str(source), str(out), chosen)

    return make


def shrink_ray(model: onnx.ModelProto, out: Path) -> None:
    from onnx_shrink_ray.shrink import quantize_weights

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        onnx.save(model, source)
        found = quantize_weights(onnx.load(source), min_elements=512)
        onnx.save(found, out)


def _torch_network(quantized: Any = None) -> Any:
    """Return a small convolutional network, its layers those of `quantized` where given."""
    from torch import nn

    torch_seed()
    conv, linear = (nn.Conv2d, nn.Linear) if quantized is None else (quantized.QuantConv2d, quantized.QuantLinear)
    return nn.Sequential(
        conv(3, 32, 3, padding=1), nn.ReLU(), conv(32, 64, 3, padding=1, stride=2), nn.ReLU(),
        conv(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(64, 10, bias=True),
    )  # fmt: skip


def torch_seed() -> None:
    import torch

    torch.manual_seed(0)


def brevitas_qcdq(weights_only: bool) -> Callable[[Path], None]:
    def make(out: Path) -> None:
        import brevitas.nn as qnn
        import torch
        from brevitas.export import export_onnx_qcdq
        from torch import nn

        torch_seed()
        model = _torch_network(qnn)
        if not weights_only:
            model = nn.Sequential(
                qnn.QuantIdentity(), *(qnn.QuantReLU() if isinstance(m, nn.ReLU) else m for m in model)
            )
        model(torch.randn(8, 3, 32, 32))
        export_onnx_qcdq(
            model.eval(), args=torch.randn(1, 3, 32, 32), export_path=str(out), opset_version=17, dynamo=False
        )

    return make


def torch_fake_quant(out: Path) -> None:
    """Simulated quantization of torch itself, observed and exported: floats behind QuantizeLinear."""
    import torch
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    example = (torch.randn(1, 3, 32, 32),)
    model = prepare_qat_fx(_torch_network().train(), get_default_qat_qconfig_mapping("x86"), example)
    for _ in range(4):
        model(torch.randn(8, 3, 32, 32))
    model.eval().apply(torch.ao.quantization.disable_observer)
    torch.onnx.export(model, example, str(out), opset_version=13, dynamo=False)


U8, S8 = ortq.QuantType.QUInt8, ortq.QuantType.QInt8
QOPERATOR = ortq.QuantFormat.QOperator
WAYS: Mapping[str, Callable[[onnx.ModelProto, Path], None]] = {
    "onnxruntime-qdq": runtime_static(),
    "onnxruntime-qdq-channel": runtime_static(per_channel=True),
    "onnxruntime-qoperator": runtime_static(quant_format=QOPERATOR),
    "onnxruntime-qdq-u8u8": runtime_static(activation_type=U8, weight_type=U8),
    "onnxruntime-qdq-u8s8": runtime_static(activation_type=U8, weight_type=S8, per_channel=True),
    "onnxruntime-dynamic": runtime_dynamic,
    "onnxruntime-4bit": runtime_nbits(4, qdq=False),
    "onnxruntime-8bit": runtime_nbits(8, qdq=False),
    "onnxruntime-4bit-qdq": runtime_nbits(4, qdq=True),
    "nncf-ptq": nncf_quantize,
    "nncf-weights": nncf_weights,
    "onnx-quantize-static": onnx_quantize(is_static=True),
    "onnx-quantize-weights": onnx_quantize(weights_only=True, is_static=False),
    "neural-compressor-static": neural_compressor("static"),
    "neural-compressor-dynamic": neural_compressor("dynamic"),
    "neural-compressor-rtn": neural_compressor("rtn"),
    "shrink-ray": shrink_ray,
}
OF_TORCH: Mapping[str, Callable[[Path], None]] = {
    "brevitas-qcdq": brevitas_qcdq(weights_only=False),
    "brevitas-weights": brevitas_qcdq(weights_only=True),
    "torch-fake-quant": torch_fake_quant,
}
ONLY_PRODUCTS = ("4bit", "8bit", "rtn", "weights")
"""Ways that change nothing in networks of convolutions."""
PACKAGES = (
    "onnxruntime", "onnx", "nncf", "onnx-quantize", "onnx-neural-compressor", "onnx-shrink-ray", "brevitas", "torch",
)  # fmt: skip


def networks() -> Iterator[tuple[str, onnx.ModelProto]]:
    yield from ((name, make()) for name, make in NETWORKS.items())
    for name in ("digits_resnet", "digits_mlp", "digits_vit"):
        model = onnx.load(BUNDLED / f"{name}.onnx")
        for given in model.graph.input:
            given.type.tensor_type.shape.dim[0].ClearField("dim_param")
            given.type.tensor_type.shape.dim[0].dim_value = 1
        yield name, onnx.shape_inference.infer_shapes(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="part of the names of files to make")
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    failures: dict[str, str] = {}

    def attempt(name: str, make: Callable[[Path], None]) -> None:
        if options.only not in name:
            return
        out = folder / f"{name}.onnx"
        try:
            make(out)
            print("made", name, flush=True)
        except Exception as error:  # whatever a tool raises
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            traceback.print_exc()
            out.unlink(missing_ok=True)

    for network, model in networks():
        convolutions = any(node.op_type == "Conv" for node in model.graph.node) and "vit" not in network
        for way, make in WAYS.items():
            if not (convolutions and any(word in way for word in ONLY_PRODUCTS)) or way == "nncf-weights":
                attempt(f"{network}--{way}", lambda out, make=make, model=model: make(_copied(model), out))  # type: ignore[misc]
    for way, of_torch in OF_TORCH.items():
        attempt(f"torch--{way}", of_torch)
    about = {"versions": dict(_versions()), "failures": failures}
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


if __name__ == "__main__":
    main()
