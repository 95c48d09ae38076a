"""Execution providers: their short names, and their presence in the installed build of ONNX Runtime."""

from collections.abc import Mapping
from types import MappingProxyType

import onnxruntime

from onnxopt.errors import UsageError, nearest

PROVIDERS: Mapping[str, str] = MappingProxyType(
    {
        "cpu": "CPUExecutionProvider",
        "openvino": "OpenVINOExecutionProvider",
        "xnnpack": "XnnpackExecutionProvider",
        "acl": "ACLExecutionProvider",
        "dnnl": "DnnlExecutionProvider",
        "cuda": "CUDAExecutionProvider",
        "tensorrt": "TensorrtExecutionProvider",
        "migraphx": "MIGraphXExecutionProvider",
        "coreml": "CoreMLExecutionProvider",
        "dml": "DmlExecutionProvider",
        "qnn": "QNNExecutionProvider",
        "nnapi": "NnapiExecutionProvider",
        "webgpu": "WebGpuExecutionProvider",
        "cann": "CANNExecutionProvider",
        "vitisai": "VitisAIExecutionProvider",
    }
)

_REMOTE = "AzureExecutionProvider"
_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "openvino": "onnxruntime-openvino",
        "cuda": "onnxruntime-gpu",
        "tensorrt": "onnxruntime-gpu",
        "dml": "onnxruntime-directml",
        "qnn": "onnxruntime-qnn",
        "webgpu": "onnxruntime-webgpu",
    }
)


def provider_name(alias: str) -> str:
    """Return ONNX Runtime's name of a provider, given its short or its full name.

    Raises:
        UsageError: ONX102 there is no provider of this name, ONX106 the installed build lacks it.
    """
    by_full_name = {full.lower(): short for short, full in PROVIDERS.items()}
    short = by_full_name.get(alias.lower(), alias.lower())
    # This list holds the usable providers; get_all_providers() holds those of all possible builds.
    available = onnxruntime.get_available_providers()
    if short in PROVIDERS and PROVIDERS[short] in available:
        return PROVIDERS[short]
    if alias in available:
        return alias
    if short not in PROVIDERS:
        raise UsageError("ONX102", "unknown execution provider", where=alias, hint=nearest(alias, PROVIDERS))
    raise unavailable(short, f"this build of ONNX Runtime offers {', '.join(available)}")


def offered() -> tuple[str, ...]:
    """Return the short names of the providers that this build offers, without the one that sends data away."""
    short = {full: name for name, full in PROVIDERS.items()}
    found = (name for name in onnxruntime.get_available_providers() if name != _REMOTE)
    return tuple(sorted((short.get(name, name) for name in found), key=lambda name: name != "cpu"))


def full_name(alias: str) -> str:
    """Return ONNX Runtime's name of a provider, which may be available elsewhere only.

    Raises:
        UsageError: ONX102 there is no provider of this name.
    """
    by_lower_case = {name.lower(): name for name in PROVIDERS.values()}
    found = PROVIDERS.get(alias.lower()) or by_lower_case.get(alias.lower())
    if found is None:
        raise UsageError("ONX102", "unknown execution provider", where=alias, hint=nearest(alias, PROVIDERS))
    return found


def unavailable(alias: str, why: str) -> UsageError:
    """Return the error for a provider that cannot be used here, with a hint how to install it."""
    package = _PACKAGES.get(alias)
    if package:
        hint = f"Install {package} in a separate environment: it replaces the onnxruntime package."
    else:
        hint = "It needs a build of ONNX Runtime made with it; the usual packages have the CPU provider only."
    return UsageError("ONX106", "the execution provider is not available", where=alias, why=why, hint=hint)
