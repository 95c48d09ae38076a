"""Static QDQ models in OpenVINO: do they load, and do they agree with ONNX Runtime? Needs openvino.

python bench/openvino_qdq.py model.onnx int8.onnx inputs.npz
"""

import argparse
import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from onnxopt.measure.runtime.session import Runtime, Session

RESULTS = Path(__file__).parent / "results" / "2026-11-23-openvino.json"


def row(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, Any]:
    session = Session(path, Runtime())
    ours = session.run(feeds)
    core = openvino.Core()
    model = core.read_model(str(path))
    found = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feeds)
    theirs = [found[i] for i in range(len(ours))]
    count = Counter(op.get_type_name() for op in model.get_ops())
    return {
        "model": path.name,
        "samples": len(ours[0]),
        "difference": [float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(ours, theirs, strict=True)],
        "same_class": [int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in zip(ours, theirs, strict=True)],
        "fake_quantize": count["FakeQuantize"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    *models, inputs = parser.parse_args().files
    with np.load(inputs) as file:
        feeds = {name: file[name] for name in file.files}
    rows = [row(path, feeds) for path in models]
    about = {name: version(name) for name in ("openvino", "onnxruntime")}
    text = json.dumps({"versions": about, "rows": rows}, indent=1)
    print(text)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
