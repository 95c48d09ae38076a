"""onnxopt: make an ONNX model smaller and faster inside an accuracy budget, with the measurements that prove it.

    import onnxopt

    run = onnxopt.optimize("model.onnx", "samples.npz", max_drop="1pp", out="my-run")
    print(run.record.reason)

Names load on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

from onnxopt.child import disable_telemetry
from onnxopt.errors import OnnxoptError as OnnxoptError

disable_telemetry()

if TYPE_CHECKING:
    from onnxopt import catalog
    from onnxopt.api import benchmark as benchmark
    from onnxopt.api import distill as distill
    from onnxopt.api import evaluate as evaluate
    from onnxopt.api import factorize as factorize
    from onnxopt.api import finetune as finetune
    from onnxopt.api import prune as prune
    from onnxopt.catalog import available_passes as available_passes
    from onnxopt.catalog import format_passes as format_passes
    from onnxopt.document.blocks import Column as Column
    from onnxopt.document.blocks import Document as Document
    from onnxopt.document.blocks import Facts as Facts
    from onnxopt.document.blocks import Table as Table
    from onnxopt.document.blocks import Text as Text
    from onnxopt.exporters.export import export as export
    from onnxopt.graph.lint import Finding as Finding
    from onnxopt.measure.runtime.session import Runtime as Runtime
    from onnxopt.measure.tasks.named import metric_of as metric_of
    from onnxopt.model_file import load as load
    from onnxopt.model_file import save as save
    from onnxopt.pipeline import Applied as Applied
    from onnxopt.pipeline import Context as Context
    from onnxopt.pipeline import Edit as Edit
    from onnxopt.pipeline import Effect as Effect
    from onnxopt.pipeline import Need as Need
    from onnxopt.pipeline import Pass as Pass
    from onnxopt.pipeline import Pipeline as Pipeline
    from onnxopt.pipeline import Skip as Skip
    from onnxopt.quantization.diagnosis.layers import LayerLoss as LayerLoss
    from onnxopt.record.run import RunRecord as RunRecord
    from onnxopt.record.run import TrialRecord as TrialRecord
    from onnxopt.run.finished import ComparedRuns as ComparedRuns
    from onnxopt.run.finished import Run as Run
    from onnxopt.run.finished import card as card
    from onnxopt.run.finished import compare_runs as compare_runs
    from onnxopt.run.finished import read_run as read_run
    from onnxopt.run.optimize import optimize as optimize
    from onnxopt.run.tracking import log_run as log_run
    from onnxopt.run.verify import Verification as Verification
    from onnxopt.run.verify import VerifiedPart as VerifiedPart
    from onnxopt.run.verify import verify as verify
    from onnxopt.samples import Samples as Samples
    from onnxopt.samples import open_samples as open_samples
    from onnxopt.samples.options import ReadOptions as ReadOptions
    from onnxopt.search.budget import Budget as Budget
    from onnxopt.search.budget import Goal as Goal
    from onnxopt.search.mix.layer_table import LayerSensitivity as LayerSensitivity
    from onnxopt.target import target_of as target_of
    from onnxopt.tasks.apply import apply_passes as apply_passes
    from onnxopt.tasks.apply import quantize as quantize
    from onnxopt.tasks.check import CheckResult as CheckResult
    from onnxopt.tasks.check import check as check
    from onnxopt.tasks.compare import compare as compare
    from onnxopt.tasks.device import bundle as bundle
    from onnxopt.tasks.device import measure_on as measure_on
    from onnxopt.tasks.diagnosis import Diagnosis as Diagnosis
    from onnxopt.tasks.diagnosis import diagnose as diagnose
    from onnxopt.tasks.inspect import inspect as inspect
    from onnxopt.tasks.sensitivity import Sensitivity as Sensitivity
    from onnxopt.tasks.sensitivity import sensitivity as sensitivity

    __version__: str
    parse_passes = catalog.parse

_LAZY = {
    "Applied": ("onnxopt.pipeline", "Applied"),
    "Budget": ("onnxopt.search.budget", "Budget"),
    "CheckResult": ("onnxopt.tasks.check", "CheckResult"),
    "Column": ("onnxopt.document.blocks", "Column"),
    "ComparedRuns": ("onnxopt.run.finished", "ComparedRuns"),
    "Context": ("onnxopt.pipeline", "Context"),
    "Diagnosis": ("onnxopt.tasks.diagnosis", "Diagnosis"),
    "Document": ("onnxopt.document.blocks", "Document"),
    "Edit": ("onnxopt.pipeline", "Edit"),
    "Effect": ("onnxopt.pipeline", "Effect"),
    "Facts": ("onnxopt.document.blocks", "Facts"),
    "Finding": ("onnxopt.graph.lint", "Finding"),
    "Goal": ("onnxopt.search.budget", "Goal"),
    "LayerLoss": ("onnxopt.quantization.diagnosis.layers", "LayerLoss"),
    "LayerSensitivity": ("onnxopt.search.mix.layer_table", "LayerSensitivity"),
    "Need": ("onnxopt.pipeline", "Need"),
    "Pass": ("onnxopt.pipeline", "Pass"),
    "Pipeline": ("onnxopt.pipeline", "Pipeline"),
    "ReadOptions": ("onnxopt.samples.options", "ReadOptions"),
    "Run": ("onnxopt.run.finished", "Run"),
    "RunRecord": ("onnxopt.record.run", "RunRecord"),
    "Runtime": ("onnxopt.measure.runtime.session", "Runtime"),
    "Samples": ("onnxopt.samples", "Samples"),
    "Sensitivity": ("onnxopt.tasks.sensitivity", "Sensitivity"),
    "Skip": ("onnxopt.pipeline", "Skip"),
    "Table": ("onnxopt.document.blocks", "Table"),
    "Text": ("onnxopt.document.blocks", "Text"),
    "TrialRecord": ("onnxopt.record.run", "TrialRecord"),
    "Verification": ("onnxopt.run.verify", "Verification"),
    "VerifiedPart": ("onnxopt.run.verify", "VerifiedPart"),
    "apply_passes": ("onnxopt.tasks.apply", "apply_passes"),
    "available_passes": ("onnxopt.catalog", "available_passes"),
    "benchmark": ("onnxopt.api", "benchmark"),
    "bundle": ("onnxopt.tasks.device", "bundle"),
    "card": ("onnxopt.run.finished", "card"),
    "check": ("onnxopt.tasks.check", "check"),
    "compare": ("onnxopt.tasks.compare", "compare"),
    "compare_runs": ("onnxopt.run.finished", "compare_runs"),
    "diagnose": ("onnxopt.tasks.diagnosis", "diagnose"),
    "distill": ("onnxopt.api", "distill"),
    "evaluate": ("onnxopt.api", "evaluate"),
    "export": ("onnxopt.exporters.export", "export"),
    "factorize": ("onnxopt.api", "factorize"),
    "finetune": ("onnxopt.api", "finetune"),
    "format_passes": ("onnxopt.catalog", "format_passes"),
    "inspect": ("onnxopt.tasks.inspect", "inspect"),
    "load": ("onnxopt.model_file", "load"),
    "log_run": ("onnxopt.run.tracking", "log_run"),
    "measure_on": ("onnxopt.tasks.device", "measure_on"),
    "metric_of": ("onnxopt.measure.tasks.named", "metric_of"),
    "open_samples": ("onnxopt.samples", "open_samples"),
    "optimize": ("onnxopt.run.optimize", "optimize"),
    "parse_passes": ("onnxopt.catalog", "parse"),
    "prune": ("onnxopt.api", "prune"),
    "quantize": ("onnxopt.tasks.apply", "quantize"),
    "read_run": ("onnxopt.run.finished", "read_run"),
    "save": ("onnxopt.model_file", "save"),
    "sensitivity": ("onnxopt.tasks.sensitivity", "sensitivity"),
    "target_of": ("onnxopt.target", "target_of"),
    "verify": ("onnxopt.run.verify", "verify"),
}
"""Public name to the module and the attribute that it stands for."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("onnxopt")
    if name not in _LAZY:
        raise AttributeError(f"module 'onnxopt' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    found = getattr(import_module(module), attribute)
    if isinstance(found, FunctionType):
        from onnxopt.keywords import with_checked_keywords

        found = with_checked_keywords(found, name, __name__)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(["OnnxoptError", "__version__", *_LAZY])
