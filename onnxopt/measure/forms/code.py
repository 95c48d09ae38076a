"""Three lines of Python, C++ and C# that load a model with given settings, without onnxopt."""

import json

from onnxopt.measure.forms.session_file import Language, SessionSettings
from onnxopt.options.runtime import OPTIMIZATIONS


def lines_for(model: str, settings: SessionSettings) -> dict[Language, tuple[str, ...]]:
    """Return the lines by language: options, their entries, the session.

    Args:
        model: name of the file.
        settings: the settings of the session.
    """
    return {"python": _python(model, settings), "c++": _cpp(model, settings), "c#": _csharp(model, settings)}


def _python(model: str, settings: SessionSettings) -> tuple[str, ...]:
    mode = "ORT_PARALLEL" if settings.inter_threads > 1 else "ORT_SEQUENTIAL"
    values = {
        "intra_op_num_threads": str(settings.threads),
        "inter_op_num_threads": str(settings.inter_threads),
        "execution_mode": f"ort.ExecutionMode.{mode}",
        "enable_cpu_mem_arena": str(settings.arena),
        "enable_mem_pattern": str(settings.memory_pattern),
        "graph_optimization_level": f"ort.GraphOptimizationLevel.{OPTIMIZATIONS[settings.optimization]}",
    }
    assigned = "; ".join(f"options.{name} = {value}" for name, value in values.items())
    adding = "; ".join(f"options.add_session_config_entry({_quoted(k)}, {_quoted(v)})" for k, v in _entries(settings))
    return (
        "import onnxruntime as ort; options = ort.SessionOptions(); " + assigned,
        adding or "# no further entries",
        f'session = ort.InferenceSession({_quoted(model)}, options, providers=["CPUExecutionProvider"])',
    )


def _cpp(model: str, settings: SessionSettings) -> tuple[str, ...]:
    calls = [
        f"SetIntraOpNumThreads({settings.threads})",
        f"SetInterOpNumThreads({settings.inter_threads})",
        f"SetExecutionMode({'ORT_PARALLEL' if settings.inter_threads > 1 else 'ORT_SEQUENTIAL'})",
        f"SetGraphOptimizationLevel({OPTIMIZATIONS[settings.optimization]})",
        f"{'Enable' if settings.arena else 'Disable'}CpuMemArena()",
        f"{'Enable' if settings.memory_pattern else 'Disable'}MemPattern()",
    ]
    adding = "".join(f".AddConfigEntry({_quoted(k)}, {_quoted(v)})" for k, v in _entries(settings))
    return (
        "Ort::Env env; Ort::SessionOptions options; options." + ".".join(calls) + ";",
        f"options{adding};" if adding else "// no further entries",
        f"Ort::Session session(env, ORT_TSTR({_quoted(model)}), options);",
    )


def _csharp(model: str, settings: SessionSettings) -> tuple[str, ...]:
    values = {
        "IntraOpNumThreads": str(settings.threads),
        "InterOpNumThreads": str(settings.inter_threads),
        "ExecutionMode": f"ExecutionMode.{'ORT_PARALLEL' if settings.inter_threads > 1 else 'ORT_SEQUENTIAL'}",
        "EnableCpuMemArena": str(settings.arena).lower(),
        "EnableMemoryPattern": str(settings.memory_pattern).lower(),
        "GraphOptimizationLevel": f"GraphOptimizationLevel.{OPTIMIZATIONS[settings.optimization]}",
    }
    assigned = ", ".join(f"{name} = {value}" for name, value in values.items())
    adding = " ".join(f"options.AddSessionConfigEntry({_quoted(k)}, {_quoted(v)});" for k, v in _entries(settings))
    return (
        f"var options = new SessionOptions {{ {assigned} }};",
        adding or "// no further entries",
        f"var session = new InferenceSession({_quoted(model)}, options);",
    )


def _entries(settings: SessionSettings) -> list[tuple[str, str]]:
    return list(settings.entries.items())


def _quoted(text: str) -> str:
    """Return a string literal that the three languages read alike."""
    return json.dumps(text, ensure_ascii=False)
