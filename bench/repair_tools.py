"""Quantizers that write ONNX files, each called as its documentation shows: what `repair_files.py` makes files with."""

import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.quantization as ortq
import peers_quantize

CALIBRATION = 8
Make = Callable[[onnx.ModelProto, Path], None]


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


def of_a_file(make: Callable[[onnx.ModelProto, Path, Path], None]) -> Make:
    """Return a maker for a tool that reads its model from a file, which is its second argument."""

    def made(model: onnx.ModelProto, out: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "model.onnx"
            onnx.save(model, source)
            make(model, source, out)

    return made


def runtime_static(**options: Any) -> Make:
    return of_a_file(lambda model, source, out: ortq.quantize_static(source, out, Reader(model), **options))


def runtime_nbits(bits: int, qdq: bool) -> Make:
    def make(model: onnx.ModelProto, out: Path) -> None:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        form = ortq.QuantFormat.QDQ if qdq else ortq.QuantFormat.QOperator
        quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=32, quant_format=form)
        quantizer.process()
        onnx.save(quantizer.model.model, out)

    return make


def peer(name: str) -> Make:
    """Return the maker that stands in the table of quantizers."""
    make, _ = peers_quantize.MAKERS[name]
    return of_a_file(lambda model, source, out: make(str(source), inputs_of(model), str(out)))


def nncf_weights(model: onnx.ModelProto, out: Path) -> None:
    import nncf

    onnx.save(nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM), out)


def onnx_quantize(**options: Any) -> Make:
    def make(model: onnx.ModelProto, out: Path) -> None:
        from onnx_quantize import QConfig, quantize

        given = dict(options)
        if given.get("is_static"):
            given["calibration_data"] = next(iter(inputs_of(model, 1)[0].values()))
        onnx.save(quantize(model, QConfig(**given)), out)

    return make


def neural_compressor_rtn(model: onnx.ModelProto, out: Path) -> None:
    from onnx_neural_compressor.quantization import algorithm_entry, config

    onnx.save(algorithm_entry.rtn_quantize_entry(model, config.RTNConfig()), out)


def neural_compressor_dynamic(_: onnx.ModelProto, source: Path, out: Path) -> None:
    from onnx_neural_compressor.quantization import config, quantize

    quantize(str(source), str(out), config.DynamicQuantConfig())


def shrink_ray(_: onnx.ModelProto, source: Path, out: Path) -> None:
    from onnx_shrink_ray.shrink import quantize_weights

    onnx.save(quantize_weights(onnx.load(source), min_elements=512), out)


U8, S8 = ortq.QuantType.QUInt8, ortq.QuantType.QInt8
WAYS: Mapping[str, Make] = {
    "onnxruntime-qdq": runtime_static(),
    "onnxruntime-qdq-channel": runtime_static(per_channel=True),
    "onnxruntime-qoperator": runtime_static(quant_format=ortq.QuantFormat.QOperator),
    "onnxruntime-qdq-u8u8": runtime_static(activation_type=U8, weight_type=U8),
    "onnxruntime-qdq-u8s8": runtime_static(activation_type=U8, weight_type=S8, per_channel=True),
    "onnxruntime-dynamic": of_a_file(lambda _, source, out: ortq.quantize_dynamic(source, out)),
    "onnxruntime-4bit": runtime_nbits(4, qdq=False),
    "onnxruntime-8bit": runtime_nbits(8, qdq=False),
    "onnxruntime-4bit-qdq": runtime_nbits(4, qdq=True),
    "nncf-ptq": peer("nncf"),
    "nncf-weights": nncf_weights,
    "onnxsim-static": peer("onnxsim"),
    "onnxsim-static-full": peer("onnxsim-full"),
    "olive-static": peer("olive"),
    "onnx-quantize-static": onnx_quantize(is_static=True),
    "onnx-quantize-weights": onnx_quantize(weights_only=True, is_static=False),
    "neural-compressor-static": peer("neural-compressor"),
    "neural-compressor-dynamic": of_a_file(neural_compressor_dynamic),
    "neural-compressor-rtn": neural_compressor_rtn,
    "shrink-ray": of_a_file(shrink_ray),
}
"""By the second half of the files' names."""
MODULES: Mapping[str, str] = {
    "nncf": "nncf",
    "onnxsim": "onnxsim",
    "olive": "olive",
    "onnx-quantize": "onnx_quantize",
    "neural-compressor": "onnx_neural_compressor",
    "shrink-ray": "onnx_shrink_ray",
    "brevitas": "brevitas",
    "torch": "torch",
}
"""By the beginning of a way's name: the module that makes it. ONNX Runtime's ways need nothing else."""
ONLY_PRODUCTS = ("4bit", "8bit", "rtn", "weights")
"""Ways that change nothing in networks of convolutions."""


def installed(way: str) -> bool:
    """Return whether this Python has the tool; ONNX Runtime's files are made where the project itself is."""
    module = next((module for start, module in MODULES.items() if way.startswith(start)), "onnxopt")
    return find_spec(module) is not None


# Networks of torch, quantized while they train


def _torch_network(quantized: Any = None) -> Any:
    """Return a small convolutional network, its layers those of `quantized` where given."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    conv, linear = (nn.Conv2d, nn.Linear) if quantized is None else (quantized.QuantConv2d, quantized.QuantLinear)
    return nn.Sequential(
        conv(3, 32, 3, padding=1), nn.ReLU(), conv(32, 64, 3, padding=1, stride=2), nn.ReLU(),
        conv(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(64, 10, bias=True),
    )  # fmt: skip


def brevitas_qcdq(weights_only: bool) -> Callable[[Path], None]:
    def make(out: Path) -> None:
        import brevitas.nn as qnn
        import torch
        from brevitas.export import export_onnx_qcdq
        from torch import nn

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
    from torch.ao.quantization import QConfig, QConfigMapping, default_fake_quant, default_weight_fake_quant
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    example = (torch.randn(1, 3, 32, 32),)
    # The fused observers of the default mapping have no ONNX operator.
    plain = QConfigMapping().set_global(QConfig(activation=default_fake_quant, weight=default_weight_fake_quant))
    model = prepare_qat_fx(_torch_network().train(), plain, example)
    for _ in range(4):
        model(torch.randn(8, 3, 32, 32))
    model.eval().apply(torch.ao.quantization.disable_observer)
    torch.onnx.export(model, example, str(out), opset_version=13, dynamo=False)


OF_TORCH: Mapping[str, Callable[[Path], None]] = {
    "brevitas-qcdq": brevitas_qcdq(weights_only=False),
    "brevitas-weights": brevitas_qcdq(weights_only=True),
    "torch-fake-quant": torch_fake_quant,
}
