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
    from onnxopt.api import distill as distill
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
    from onnxopt.errors import DataError as DataError
    from onnxopt.errors import FileError as FileError
    from onnxopt.errors import ModelError as ModelError
    from onnxopt.errors import NativeError as NativeError
    from onnxopt.errors import UsageError as UsageError
    from onnxopt.exporters.export import Exported as Exported
    from onnxopt.exporters.export import export as export
    from onnxopt.exporters.verify import Verified as Verified
    from onnxopt.graph.lint import Finding as Finding
    from onnxopt.graph.lint import Level as Level
    from onnxopt.measure.accuracy import Evaluation as Evaluation
    from onnxopt.measure.device.result import DeviceModel as DeviceModel
    from onnxopt.measure.device.result import DeviceResult as DeviceResult
    from onnxopt.measure.forms.load import load_session as load_session
    from onnxopt.measure.forms.session_file import MadeFor as MadeFor
    from onnxopt.measure.forms.session_file import SessionFile as SessionFile
    from onnxopt.measure.forms.session_file import SessionGain as SessionGain
    from onnxopt.measure.forms.session_file import SessionSettings as SessionSettings
    from onnxopt.measure.forms.tuning import SessionTrial as SessionTrial
    from onnxopt.measure.latency import Latency as Latency
    from onnxopt.measure.latency.processes import ProcessLoad as ProcessLoad
    from onnxopt.measure.latency.profile import NodeTime as NodeTime
    from onnxopt.measure.latency.profile import Profile as Profile
    from onnxopt.measure.latency.throughput import Throughput as Throughput
    from onnxopt.measure.metrics.score import Metric as Metric
    from onnxopt.measure.metrics.score import Score as Score
    from onnxopt.measure.statistics import Drop as Drop
    from onnxopt.measure.statistics import Interval as Interval
    from onnxopt.measure.tasks.named import metric_of as metric_of
    from onnxopt.model_file import Signature as Signature
    from onnxopt.model_file import TensorSpec as TensorSpec
    from onnxopt.model_file import load as load
    from onnxopt.model_file import save as save
    from onnxopt.options.reading import ReadOptions as ReadOptions
    from onnxopt.options.runtime import Runtime as Runtime
    from onnxopt.options.search import Goal as Goal
    from onnxopt.options.search import SearchOptions as SearchOptions
    from onnxopt.options.tasks import TaskOptions as TaskOptions
    from onnxopt.options.training import DistillOptions as DistillOptions
    from onnxopt.options.training import FinetuneOptions as FinetuneOptions
    from onnxopt.options.training import TrainingOptions as TrainingOptions
    from onnxopt.pipeline import Applied as Applied
    from onnxopt.pipeline import Context as Context
    from onnxopt.pipeline import Edit as Edit
    from onnxopt.pipeline import Effect as Effect
    from onnxopt.pipeline import Need as Need
    from onnxopt.pipeline import Optimized as Optimized
    from onnxopt.pipeline import Pass as Pass
    from onnxopt.pipeline import Pipeline as Pipeline
    from onnxopt.pipeline import Skip as Skip
    from onnxopt.pipeline import Step as Step
    from onnxopt.quantization.diagnosis.layers import LayerLoss as LayerLoss
    from onnxopt.quantization.diagnosis.simulation import Simulation as Simulation
    from onnxopt.record.run import RunRecord as RunRecord
    from onnxopt.record.trial import TrialRecord as TrialRecord
    from onnxopt.repairs.fault import Faults as Faults
    from onnxopt.repairs.fault import Repair as Repair
    from onnxopt.repairs.mending import Mended as Mended
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
    from onnxopt.samples import Batch as Batch
    from onnxopt.samples import Samples as Samples
    from onnxopt.samples import open_samples as open_samples
    from onnxopt.search.budget import Budget as Budget
    from onnxopt.search.mix.layer_table import LayerSensitivity as LayerSensitivity
    from onnxopt.search.observer import NullObserver as NullObserver
    from onnxopt.search.observer import Observer as Observer
    from onnxopt.search.prospect import Prospect as Prospect
    from onnxopt.search.trial import Candidate as Candidate
    from onnxopt.search.trial import Trial as Trial
    from onnxopt.search.trial import Verdict as Verdict
    from onnxopt.target import Target as Target
    from onnxopt.target import target_of as target_of
    from onnxopt.tasks.apply import Made as Made
    from onnxopt.tasks.apply import apply as apply
    from onnxopt.tasks.apply import quantize as quantize
    from onnxopt.tasks.benchmark import Benchmark as Benchmark
    from onnxopt.tasks.benchmark import benchmark as benchmark
    from onnxopt.tasks.benchmark import device_result as device_result
    from onnxopt.tasks.check import CheckResult as CheckResult
    from onnxopt.tasks.check import check as check
    from onnxopt.tasks.compare import Compared as Compared
    from onnxopt.tasks.compare import Judged as Judged
    from onnxopt.tasks.compare import compare as compare
    from onnxopt.tasks.data.made import FirstInput as FirstInput
    from onnxopt.tasks.data.made import SampleFile as SampleFile
    from onnxopt.tasks.data.make import data as data
    from onnxopt.tasks.device import bundle as bundle
    from onnxopt.tasks.diagnosis import Diagnosis as Diagnosis
    from onnxopt.tasks.diagnosis import diagnose as diagnose
    from onnxopt.tasks.evaluate import Evaluated as Evaluated
    from onnxopt.tasks.evaluate import SimulatedEvaluation as SimulatedEvaluation
    from onnxopt.tasks.evaluate import evaluate as evaluate
    from onnxopt.tasks.inspect import inspect as inspect
    from onnxopt.tasks.repair import repair as repair
    from onnxopt.tasks.repaired import Repaired as Repaired
    from onnxopt.tasks.sensitivity import Sensitivity as Sensitivity
    from onnxopt.tasks.sensitivity import sensitivity as sensitivity
    from onnxopt.tasks.session.tune import tune_session as tune_session
    from onnxopt.tasks.session.tuned import TunedSession as TunedSession
    from onnxopt.tasks.variants.audit import Audit as Audit
    from onnxopt.tasks.variants.audit import audit as audit
    from onnxopt.tasks.variants.folder import MadeFolder as MadeFolder
    from onnxopt.tasks.variants.folder import quantize_folder as quantize_folder
    from onnxopt.tasks.variants.make import MadeFile as MadeFile
    from onnxopt.tasks.variants.make import Variants as Variants
    from onnxopt.tasks.variants.make import variants as variants
    from onnxopt.tasks.variants.verdict import JudgedFile as JudgedFile
    from onnxopt.tasks.variants.verdict import Standing as Standing

    __version__: str
    parse_passes = catalog.parse

_LAZY = {
    "Applied": ("onnxopt.pipeline", "Applied"),
    "Audit": ("onnxopt.tasks.variants.audit", "Audit"),
    "Batch": ("onnxopt.samples", "Batch"),
    "Benchmark": ("onnxopt.tasks.benchmark", "Benchmark"),
    "Budget": ("onnxopt.search.budget", "Budget"),
    "Candidate": ("onnxopt.search.trial", "Candidate"),
    "CheckResult": ("onnxopt.tasks.check", "CheckResult"),
    "Column": ("onnxopt.document.blocks", "Column"),
    "Compared": ("onnxopt.tasks.compare", "Compared"),
    "ComparedRuns": ("onnxopt.run.finished", "ComparedRuns"),
    "Context": ("onnxopt.pipeline", "Context"),
    "DataError": ("onnxopt.errors", "DataError"),
    "DeviceModel": ("onnxopt.measure.device.result", "DeviceModel"),
    "DeviceResult": ("onnxopt.measure.device.result", "DeviceResult"),
    "Diagnosis": ("onnxopt.tasks.diagnosis", "Diagnosis"),
    "DistillOptions": ("onnxopt.options.training", "DistillOptions"),
    "Document": ("onnxopt.document.blocks", "Document"),
    "Drop": ("onnxopt.measure.statistics", "Drop"),
    "Edit": ("onnxopt.pipeline", "Edit"),
    "Effect": ("onnxopt.pipeline", "Effect"),
    "Evaluated": ("onnxopt.tasks.evaluate", "Evaluated"),
    "Evaluation": ("onnxopt.measure.accuracy", "Evaluation"),
    "Exported": ("onnxopt.exporters.export", "Exported"),
    "Facts": ("onnxopt.document.blocks", "Facts"),
    "Faults": ("onnxopt.repairs.fault", "Faults"),
    "FileError": ("onnxopt.errors", "FileError"),
    "Finding": ("onnxopt.graph.lint", "Finding"),
    "FinetuneOptions": ("onnxopt.options.training", "FinetuneOptions"),
    "FirstInput": ("onnxopt.tasks.data.made", "FirstInput"),
    "Goal": ("onnxopt.options.search", "Goal"),
    "Interval": ("onnxopt.measure.statistics", "Interval"),
    "Judged": ("onnxopt.tasks.compare", "Judged"),
    "JudgedFile": ("onnxopt.tasks.variants.verdict", "JudgedFile"),
    "Latency": ("onnxopt.measure.latency", "Latency"),
    "LayerLoss": ("onnxopt.quantization.diagnosis.layers", "LayerLoss"),
    "LayerSensitivity": ("onnxopt.search.mix.layer_table", "LayerSensitivity"),
    "Level": ("onnxopt.graph.lint", "Level"),
    "Made": ("onnxopt.tasks.apply", "Made"),
    "MadeFile": ("onnxopt.tasks.variants.make", "MadeFile"),
    "MadeFolder": ("onnxopt.tasks.variants.folder", "MadeFolder"),
    "MadeFor": ("onnxopt.measure.forms.session_file", "MadeFor"),
    "Mended": ("onnxopt.repairs.mending", "Mended"),
    "Metric": ("onnxopt.measure.metrics.score", "Metric"),
    "ModelError": ("onnxopt.errors", "ModelError"),
    "NativeError": ("onnxopt.errors", "NativeError"),
    "Need": ("onnxopt.pipeline", "Need"),
    "NodeTime": ("onnxopt.measure.latency.profile", "NodeTime"),
    "NullObserver": ("onnxopt.search.observer", "NullObserver"),
    "Observer": ("onnxopt.search.observer", "Observer"),
    "Optimized": ("onnxopt.pipeline", "Optimized"),
    "Pass": ("onnxopt.pipeline", "Pass"),
    "Pipeline": ("onnxopt.pipeline", "Pipeline"),
    "ProcessLoad": ("onnxopt.measure.latency.processes", "ProcessLoad"),
    "Profile": ("onnxopt.measure.latency.profile", "Profile"),
    "Prospect": ("onnxopt.search.prospect", "Prospect"),
    "ReadOptions": ("onnxopt.options.reading", "ReadOptions"),
    "Repair": ("onnxopt.repairs.fault", "Repair"),
    "Repaired": ("onnxopt.tasks.repaired", "Repaired"),
    "Run": ("onnxopt.run.finished", "Run"),
    "RunRecord": ("onnxopt.record.run", "RunRecord"),
    "Runtime": ("onnxopt.options.runtime", "Runtime"),
    "SampleFile": ("onnxopt.tasks.data.made", "SampleFile"),
    "Samples": ("onnxopt.samples", "Samples"),
    "Score": ("onnxopt.measure.metrics.score", "Score"),
    "SearchOptions": ("onnxopt.options.search", "SearchOptions"),
    "Sensitivity": ("onnxopt.tasks.sensitivity", "Sensitivity"),
    "SessionFile": ("onnxopt.measure.forms.session_file", "SessionFile"),
    "SessionGain": ("onnxopt.measure.forms.session_file", "SessionGain"),
    "SessionSettings": ("onnxopt.measure.forms.session_file", "SessionSettings"),
    "SessionTrial": ("onnxopt.measure.forms.tuning", "SessionTrial"),
    "Signature": ("onnxopt.model_file", "Signature"),
    "SimulatedEvaluation": ("onnxopt.tasks.evaluate", "SimulatedEvaluation"),
    "Simulation": ("onnxopt.quantization.diagnosis.simulation", "Simulation"),
    "Skip": ("onnxopt.pipeline", "Skip"),
    "Standing": ("onnxopt.tasks.variants.verdict", "Standing"),
    "Step": ("onnxopt.pipeline", "Step"),
    "Table": ("onnxopt.document.blocks", "Table"),
    "Target": ("onnxopt.target", "Target"),
    "TaskOptions": ("onnxopt.options.tasks", "TaskOptions"),
    "TensorSpec": ("onnxopt.model_file", "TensorSpec"),
    "Text": ("onnxopt.document.blocks", "Text"),
    "Throughput": ("onnxopt.measure.latency.throughput", "Throughput"),
    "Trial": ("onnxopt.search.trial", "Trial"),
    "TrialRecord": ("onnxopt.record.trial", "TrialRecord"),
    "TrainingOptions": ("onnxopt.options.training", "TrainingOptions"),
    "TunedSession": ("onnxopt.tasks.session.tuned", "TunedSession"),
    "UsageError": ("onnxopt.errors", "UsageError"),
    "Variants": ("onnxopt.tasks.variants.make", "Variants"),
    "Verdict": ("onnxopt.search.trial", "Verdict"),
    "Verification": ("onnxopt.run.verify", "Verification"),
    "Verified": ("onnxopt.exporters.verify", "Verified"),
    "VerifiedPart": ("onnxopt.run.verify", "VerifiedPart"),
    "apply": ("onnxopt.tasks.apply", "apply"),
    "audit": ("onnxopt.tasks.variants.audit", "audit"),
    "available_passes": ("onnxopt.catalog", "available_passes"),
    "benchmark": ("onnxopt.tasks.benchmark", "benchmark"),
    "bundle": ("onnxopt.tasks.device", "bundle"),
    "card": ("onnxopt.run.finished", "card"),
    "check": ("onnxopt.tasks.check", "check"),
    "compare": ("onnxopt.tasks.compare", "compare"),
    "compare_runs": ("onnxopt.run.finished", "compare_runs"),
    "data": ("onnxopt.tasks.data.make", "data"),
    "device_result": ("onnxopt.tasks.benchmark", "device_result"),
    "diagnose": ("onnxopt.tasks.diagnosis", "diagnose"),
    "distill": ("onnxopt.api", "distill"),
    "evaluate": ("onnxopt.tasks.evaluate", "evaluate"),
    "export": ("onnxopt.exporters.export", "export"),
    "factorize": ("onnxopt.api", "factorize"),
    "finetune": ("onnxopt.api", "finetune"),
    "format_passes": ("onnxopt.catalog", "format_passes"),
    "inspect": ("onnxopt.tasks.inspect", "inspect"),
    "load": ("onnxopt.model_file", "load"),
    "load_session": ("onnxopt.measure.forms.load", "load_session"),
    "log_run": ("onnxopt.run.tracking", "log_run"),
    "metric_of": ("onnxopt.measure.tasks.named", "metric_of"),
    "open_samples": ("onnxopt.samples", "open_samples"),
    "optimize": ("onnxopt.run.optimize", "optimize"),
    "parse_passes": ("onnxopt.catalog", "parse"),
    "prune": ("onnxopt.api", "prune"),
    "quantize": ("onnxopt.tasks.apply", "quantize"),
    "quantize_folder": ("onnxopt.tasks.variants.folder", "quantize_folder"),
    "read_run": ("onnxopt.run.finished", "read_run"),
    "repair": ("onnxopt.tasks.repair", "repair"),
    "save": ("onnxopt.model_file", "save"),
    "sensitivity": ("onnxopt.tasks.sensitivity", "sensitivity"),
    "target_of": ("onnxopt.target", "target_of"),
    "tune_session": ("onnxopt.tasks.session.tune", "tune_session"),
    "variants": ("onnxopt.tasks.variants.make", "variants"),
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
