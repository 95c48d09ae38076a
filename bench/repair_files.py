"""Make quantized files by every tool that is installed, for `bench/repair.py`.

    python bench/repair_files.py FOLDER [--venv PYTHON ...]

Each file is named `network--way.onnx`; the float networks are in FOLDER/float, and versions and failures of the tools
in about.json. Some tools want older libraries than onnxopt: each `--venv` names the Python of an environment with
others, which makes the files of the tools that it has. Beside them are files that were found: of the developer pack, of
its fixtures, and of the packages of `bench/deployed.py`, which are downloaded once. Files that are there stay.
"""

import argparse
import json
import os
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from repair_models import NETWORKS
from repair_tools import OF_TORCH, ONLY_PRODUCTS, WAYS, Make, installed

BUNDLED = Path(__file__).parents[1] / "models"
PACK = Path(os.environ.get("ONNXOPT_PACK", Path(__file__).parents[2] / "shared" / "data"))
GIVEN = {
    "tf2onnx--tflite-int8": PACK.parent / "fixtures" / "tflite_cnn_int8.onnx",
    "tf2onnx--mobilenetv1-0.25": PACK / "models" / "tflite_mobilenetv1_0.25_128_qat.onnx",
    "tract--qlstm": PACK / "models" / "tract_qlstm.onnx",
    "tract--byte-lstm": PACK / "models" / "tract_byte_sb_bidi_lstm.onnx",
    "caffe2--squeezenet": PACK / "models" / "caffe2_squeezenet1.1_ir3_op7.onnx",
    "pytorch--slim-320": PACK / "models" / "version-slim-320.onnx",
    "pytorch--rfb-320": PACK / "models" / "version-RFB-320_simplified.onnx",
}
"""Files that others have made, by the names they get: quantized ones, and old ones that list weights as inputs."""
PACKAGED = ("rapidocr-det", "rapidocr-rec", "rapidocr-cls", "magika", "nudenet")
"""Files of packages: exports that write activations in several operators, and one without faults."""
INPUTS = 16
PACKAGES = (
    "onnxruntime", "onnx", "nncf", "onnxsim", "olive-ai", "onnx-quantize", "onnx-neural-compressor", "onnx-shrink-ray",
    "brevitas", "torch", "onnxopt",
)  # fmt: skip


def networks() -> Iterator[tuple[str, onnx.ModelProto]]:
    yield from ((name, make()) for name, make in NETWORKS.items())
    for name in ("digits_resnet", "digits_mlp", "digits_vit"):
        model = onnx.load(BUNDLED / f"{name}.onnx")
        for given in model.graph.input:
            given.type.tensor_type.shape.dim[0].ClearField("dim_param")
            given.type.tensor_type.shape.dim[0].dim_value = 1
        yield name, onnx.shape_inference.infer_shapes(model)


def ours(name: str, mode: str) -> Callable[[Path], None]:
    def make(out: Path) -> None:
        import onnxopt

        data = "digits" if mode == "static" else None
        onnxopt.quantize(BUNDLED / f"{name}.onnx", data, out=out, mode=mode)

    return make


def packaged(name: str) -> Callable[[Path], None]:
    def make(out: Path) -> None:
        from deployed_cases import cases, model_of

        case = next(case for case in cases(PACK) if case.name == name)
        shutil.copyfile(model_of(case, Path.home() / ".cache" / "onnxopt-bench" / "deployed", PACK), out)
        inputs = out.parent / "inputs" / f"{out.stem}.npz"
        inputs.parent.mkdir(exist_ok=True)
        np.savez(inputs, **{f"{i}/{key}": array for i in range(INPUTS) for key, array in case.make(i).items()})

    return make


def wanted(folder: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield every file that this Python can make, by its name."""
    (folder / "float").mkdir(parents=True, exist_ok=True)
    for network, model in networks():
        onnx.save(model, folder / "float" / f"{network}.onnx")
        convolutions = any(node.op_type == "Conv" for node in model.graph.node) and "vit" not in network
        for way, make in WAYS.items():
            if installed(way) and not (convolutions and any(word in way for word in ONLY_PRODUCTS)):
                yield f"{network}--{way}", partial(_made, make, model)
    yield from ((f"torch--{way}", make) for way, make in OF_TORCH.items() if installed(way))
    if find_spec("onnxopt") is None:
        return
    yield "digits_resnet--onnxopt-static", ours("digits_resnet", "static")
    yield "digits_vit--onnxopt-dynamic", ours("digits_vit", "dynamic")
    yield from ((name, partial(shutil.copyfile, path)) for name, path in GIVEN.items() if path.is_file())
    if PACK.is_dir() and find_spec("PIL") is not None:
        yield from ((f"deployed--{name}", packaged(name)) for name in PACKAGED)


def _made(make: Make, model: onnx.ModelProto, out: Path) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    make(copy, out)


def attempts(folder: Path, only: str) -> dict[str, str]:
    """Make what is missing; return the failures, by name."""
    failures: dict[str, str] = {}
    for name, make in wanted(folder):
        out = folder / f"{name}.onnx"
        if only not in name or out.exists():
            continue
        try:
            make(out)
            out.chmod(0o644)
            print("made", name, flush=True)
        except Exception as error:  # whatever a tool raises
            failures[name] = (str(error).splitlines() or [""])[0][:200]
            failures[name] = f"{type(error).__name__}: {failures[name]}"
            traceback.print_exc()
            out.unlink(missing_ok=True)
    return failures


def told(folder: Path, failures: dict[str, str]) -> None:
    """Add versions and failures of this Python to those of others."""
    path = folder / "about.json"
    before: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    made = {file.stem for file in folder.glob("*.onnx")}
    about = {
        "versions": {**dict(_versions()), **before.get("versions", {})},
        "failures": {k: v for k, v in {**before.get("failures", {}), **failures}.items() if k not in made},
    }
    path.write_text(json.dumps(about, indent=1) + "\n")


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--venv", action="append", default=[], metavar="PYTHON", help="another Python with more tools")
    parser.add_argument("--only", default="", help="part of the names of files to make")
    options = parser.parse_args()
    told(options.folder, attempts(options.folder, options.only))
    for python in options.venv:
        command = [python, __file__, str(options.folder), "--only", options.only]
        subprocess.run(command, check=False, env={**os.environ, "OLIVE_DISABLE_TELEMETRY": "1"})


if __name__ == "__main__":
    main()
