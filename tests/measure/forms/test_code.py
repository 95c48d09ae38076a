import re

import numpy as np
from measure_models import linear

from onnxopt.measure.forms.code import lines_for
from onnxopt.measure.forms.session_file import SessionSettings
from onnxopt.model_file import save

SETTINGS = SessionSettings(
    threads=2, inter_threads=3, arena=False, optimization="basic", entries={"session.disable_prepacking": "1"}
)


def test_there_are_three_lines_for_each_language():
    assert {language: len(lines) for language, lines in lines_for("m.onnx", SETTINGS).items()} == {
        "python": 3,
        "c++": 3,
        "c#": 3,
    }
    assert all(len(lines) == 3 for lines in lines_for("m.onnx", SessionSettings()).values())


def test_the_python_lines_load_the_model_with_the_settings(tmp_path, monkeypatch):
    name = 'a "quoted" näme.onnx'
    save(linear(np.eye(3)), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec("\n".join(lines_for(name, SETTINGS)["python"]), scope)
    options = scope["session"].get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 3)
    assert not options.enable_cpu_mem_arena
    assert options.enable_mem_pattern
    assert options.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert options.execution_mode.name == "ORT_PARALLEL"
    assert options.get_session_config_entry("session.disable_prepacking") == "1"
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(scope["session"].run(None, {"x": x})[0], x)


def test_each_setting_is_in_the_lines_of_the_other_languages():
    cpp, csharp = ("\n".join(lines_for("m.onnx", SETTINGS)[language]) for language in ("c++", "c#"))
    for said in (
        "SetIntraOpNumThreads(2)",
        "SetInterOpNumThreads(3)",
        "SetExecutionMode(ORT_PARALLEL)",
        "SetGraphOptimizationLevel(ORT_ENABLE_BASIC)",
        "DisableCpuMemArena()",
        "EnableMemPattern()",
        'AddConfigEntry("session.disable_prepacking", "1")',
        'ORT_TSTR("m.onnx")',
    ):
        assert said in cpp
    for said in (
        "IntraOpNumThreads = 2",
        "InterOpNumThreads = 3",
        "ExecutionMode.ORT_PARALLEL",
        "GraphOptimizationLevel.ORT_ENABLE_BASIC",
        "EnableCpuMemArena = false",
        "EnableMemoryPattern = true",
        'AddSessionConfigEntry("session.disable_prepacking", "1")',
    ):
        assert said in csharp
    assert not re.search(r"True|False", cpp + csharp)
