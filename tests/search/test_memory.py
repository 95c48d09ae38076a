"""How much memory candidates take beside the model, measured in a separate process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxopt.child import child_environment
from tests.builders import F, Net

WEIGHTS, WIDTH = 10, 1280
MOST = 5.5
"""Times the model, with the copies that the runtime makes itself; twice as much without what this guards."""
_STATUS = Path("/proc/self/status")

_SCRIPT = """
import sys
from pathlib import Path
from onnxopt import model_file
from onnxopt.measure.fidelity_judge import FidelityJudge
from onnxopt.measure.runtime.session import Runtime
from onnxopt.pipeline import Context
from onnxopt.samples import open_samples
from onnxopt.search.candidates import first_candidates
from onnxopt.search.judged import digest_of
from onnxopt.search.workers.preparation import Preparation
from onnxopt.target import target_of
from tests import builders

def in_bytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024

def tried(model, samples, name):
    context = Context(target_of("x86-vnni"), samples)
    judge = FidelityJudge(model, samples, Runtime())
    judge.baseline()
    passes = next(c.passes for c in first_candidates() if c.name == name)
    made = Preparation(model, context).run(passes).model
    assert digest_of(made) != digest_of(model)
    judge.evaluate(made)

small = builders.BUILDERS["gemm_mlp"]()
tried(small, builders.samples_of(small), sys.argv[3])  # what is loaded once
begin = in_bytes("VmRSS")
model = model_file.load(sys.argv[1])
tried(model, open_samples(sys.argv[2], model_file.signature_of(model)), sys.argv[3])
print(in_bytes("VmHWM") - begin)
"""


def wide(path: Path) -> Path:
    """Write a stack of products, 65 MB."""
    net, x = Net(0), "x"
    for _ in range(WEIGHTS):
        x = net.node("Relu", net.node("MatMul", x, net.weight(WIDTH, WIDTH)))
    net.node("MatMul", x, net.weight(WIDTH, 4), out="y")
    onnx.save(net.proto([("x", F, ["batch", WIDTH])], [("y", F, ["batch", 4])]), path)
    return path


@pytest.mark.skipif(not _STATUS.exists(), reason="the system does not say how much memory a process took")
@pytest.mark.parametrize("candidate", ["dynamic", "static-minmax"])
def test_a_candidate_is_built_and_scored_in_few_times_the_model(tmp_path: Path, candidate: str) -> None:
    model, data = wide(tmp_path / "m.onnx"), tmp_path / "d.npz"
    np.savez(data, x=np.random.default_rng(0).standard_normal((16, WIDTH)).astype(np.float32))
    command = [sys.executable, "-c", _SCRIPT, str(model), str(data), candidate]
    env = {**child_environment(), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert int(done.stdout.split()[-1]) < MOST * model.stat().st_size
