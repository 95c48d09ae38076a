import json

import numpy as np
import onnxruntime

from onnxopt.measure.runtime import environment as module
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime


def test_it_names_processor_versions_and_runtime():
    facts = environment(Runtime(threads=2, options=(("a", "b"),)))
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["versions"]["onnxruntime"] == onnxruntime.__version__
    assert facts["cpu"]
    assert facts["cores"] >= 1
    assert (facts["threads"], facts["provider"], facts["runtime_options"]) == (2, "cpu", {"a": "b"})
    assert json.loads(json.dumps(facts)) == facts


def test_instruction_sets_come_from_either_spelling(monkeypatch):
    monkeypatch.setattr(module, "_cpuinfo", lambda: {"flags": "avx2 avx512f unknown avx512_vnni", "model name": "X"})
    assert environment()["isa"] == ["avx2", "avx512f", "avx512_vnni"]
    monkeypatch.setattr(module, "_cpuinfo", lambda: {"Features": "fp asimd asimddp i8mm"})
    assert environment()["isa"] == ["asimd", "asimddp", "i8mm"]
    monkeypatch.setattr(module, "_cpuinfo", dict)
    assert environment()["isa"] == []
    assert "threads" not in environment()


def test_two_hardware_threads_of_a_core_count_once(monkeypatch, tmp_path):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{siblings}\n")
    assert module.physical_cores(tmp_path) == 2
    assert module.physical_cores(tmp_path / "none") == 4


def test_a_package_that_is_not_installed_has_no_version():
    assert module._version("no-such-package-anywhere") is None
