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
    from onnxopt.measure.generation.perplexity import TextPerplexity as TextPerplexity
    from onnxopt.measure.generation.speed import GenerationSpeed as GenerationSpeed
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
    from onnxopt.pipeline import Observations as Observations
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
    from onnxopt.run.claims import AuditedRun as AuditedRun
    from onnxopt.run.claims import Claim as Claim
    from onnxopt.run.claims import audit_run as audit_run
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
    from onnxopt.search.proof.prospect import Prospect as Prospect
    from onnxopt.search.trial import Candidate as Candidate
    from onnxopt.search.trial import Trial as Trial
    from onnxopt.search.trial import Verdict as Verdict
    from onnxopt.target import Target as Target
    from onnxopt.target import target_of as target_of
    from onnxopt.tasks.apply import Made as Made
    from onnxopt.tasks.apply import apply as apply
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
    from onnxopt.tasks.generation.generation import Generation as Generation
    from onnxopt.tasks.generation.generation import generation as generation
    from onnxopt.tasks.inspect import inspect as inspect
    from onnxopt.tasks.parts.choice import MeasuredForm as MeasuredForm
    from onnxopt.tasks.parts.forms import PartForm as PartForm
    from onnxopt.tasks.parts.optimize import OptimizedParts as OptimizedParts
    from onnxopt.tasks.parts.optimize import optimize_parts as optimize_parts
    from onnxopt.tasks.parts.search import PartsFound as PartsFound
    from onnxopt.tasks.parts.search import TriedWhole as TriedWhole
    from onnxopt.tasks.quantize import quantize as quantize
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
    from onnxopt.tasks.variants.published import OptimizedFolder as OptimizedFolder
    from onnxopt.tasks.variants.published import optimize_folder as optimize_folder
    from onnxopt.tasks.variants.verdict import JudgedFile as JudgedFile
    from onnxopt.tasks.variants.verdict import Standing as Standing

    __version__: str
    parse_passes = catalog.parse

_BY_MODULE = {
    "onnxopt.api": ("distill", "factorize", "finetune", "prune"),
    "onnxopt.catalog": ("available_passes", "format_passes", "parse_passes"),
    "onnxopt.document.blocks": ("Column", "Document", "Facts", "Table", "Text"),
    "onnxopt.errors": ("DataError", "FileError", "ModelError", "NativeError", "UsageError"),
    "onnxopt.exporters.export": ("Exported", "export"),
    "onnxopt.exporters.verify": ("Verified",),
    "onnxopt.graph.lint": ("Finding", "Level"),
    "onnxopt.measure.accuracy": ("Evaluation",),
    "onnxopt.measure.device.result": ("DeviceModel", "DeviceResult"),
    "onnxopt.measure.forms.load": ("load_session",),
    "onnxopt.measure.forms.session_file": ("MadeFor", "SessionFile", "SessionGain", "SessionSettings"),
    "onnxopt.measure.forms.tuning": ("SessionTrial",),
    "onnxopt.measure.latency": ("Latency",),
    "onnxopt.measure.latency.processes": ("ProcessLoad",),
    "onnxopt.measure.latency.profile": ("NodeTime", "Profile"),
    "onnxopt.measure.latency.throughput": ("Throughput",),
    "onnxopt.measure.metrics.score": ("Metric", "Score"),
    "onnxopt.measure.statistics": ("Drop", "Interval"),
    "onnxopt.measure.tasks.named": ("metric_of",),
    "onnxopt.model_file": ("Signature", "TensorSpec", "load", "save"),
    "onnxopt.options.reading": ("ReadOptions",),
    "onnxopt.options.runtime": ("Runtime",),
    "onnxopt.options.search": ("Goal", "SearchOptions"),
    "onnxopt.options.tasks": ("TaskOptions",),
    "onnxopt.options.training": ("DistillOptions", "FinetuneOptions", "TrainingOptions"),
    "onnxopt.pipeline": (
        "Applied",
        "Context",
        "Edit",
        "Effect",
        "Need",
        "Observations",
        "Optimized",
        "Pass",
        "Pipeline",
        "Skip",
        "Step",
    ),
    "onnxopt.quantization.diagnosis.layers": ("LayerLoss",),
    "onnxopt.quantization.diagnosis.simulation": ("Simulation",),
    "onnxopt.record.run": ("RunRecord",),
    "onnxopt.record.trial": ("TrialRecord",),
    "onnxopt.repairs.fault": ("Faults", "Repair"),
    "onnxopt.repairs.mending": ("Mended",),
    "onnxopt.run.claims": ("AuditedRun", "Claim", "audit_run"),
    "onnxopt.run.finished": ("ComparedRuns", "Run", "card", "compare_runs", "read_run"),
    "onnxopt.run.optimize": ("optimize",),
    "onnxopt.run.tracking": ("log_run",),
    "onnxopt.run.verify": ("Verification", "VerifiedPart", "verify"),
    "onnxopt.samples": ("Batch", "Samples", "open_samples"),
    "onnxopt.search.budget": ("Budget",),
    "onnxopt.search.mix.layer_table": ("LayerSensitivity",),
    "onnxopt.search.observer": ("NullObserver", "Observer"),
    "onnxopt.search.proof.prospect": ("Prospect",),
    "onnxopt.search.trial": ("Candidate", "Trial", "Verdict"),
    "onnxopt.target": ("Target", "target_of"),
    "onnxopt.tasks.apply": ("Made", "apply"),
    "onnxopt.tasks.quantize": ("quantize",),
    "onnxopt.tasks.benchmark": ("Benchmark", "benchmark", "device_result"),
    "onnxopt.tasks.check": ("CheckResult", "check"),
    "onnxopt.tasks.compare": ("Compared", "Judged", "compare"),
    "onnxopt.tasks.data.made": ("FirstInput", "SampleFile"),
    "onnxopt.tasks.data.make": ("data",),
    "onnxopt.tasks.device": ("bundle",),
    "onnxopt.tasks.diagnosis": ("Diagnosis", "diagnose"),
    "onnxopt.tasks.evaluate": ("Evaluated", "SimulatedEvaluation", "evaluate"),
    "onnxopt.measure.generation.perplexity": ("TextPerplexity",),
    "onnxopt.measure.generation.speed": ("GenerationSpeed",),
    "onnxopt.tasks.generation.generation": ("Generation", "generation"),
    "onnxopt.tasks.inspect": ("inspect",),
    "onnxopt.tasks.repair": ("repair",),
    "onnxopt.tasks.repaired": ("Repaired",),
    "onnxopt.tasks.sensitivity": ("Sensitivity", "sensitivity"),
    "onnxopt.tasks.session.tune": ("tune_session",),
    "onnxopt.tasks.session.tuned": ("TunedSession",),
    "onnxopt.tasks.variants.audit": ("Audit", "audit"),
    "onnxopt.tasks.variants.folder": ("MadeFolder", "quantize_folder"),
    "onnxopt.tasks.variants.make": ("MadeFile", "Variants", "variants"),
    "onnxopt.tasks.parts.choice": ("MeasuredForm",),
    "onnxopt.tasks.parts.forms": ("PartForm",),
    "onnxopt.tasks.parts.optimize": ("OptimizedParts", "optimize_parts"),
    "onnxopt.tasks.parts.search": ("PartsFound", "TriedWhole"),
    "onnxopt.tasks.variants.published": ("OptimizedFolder", "optimize_folder"),
    "onnxopt.tasks.variants.verdict": ("JudgedFile", "Standing"),
}
"""Public names by the module that defines them."""

_MODULES = {name: module for module, names in _BY_MODULE.items() for name in names}
_OTHERWISE = {"parse_passes": "parse"}
"""Names that are others in their module."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("onnxopt")
    if name not in _MODULES:
        raise AttributeError(f"module 'onnxopt' has no attribute {name!r}")
    found = getattr(import_module(_MODULES[name]), _OTHERWISE.get(name, name))
    if isinstance(found, FunctionType):
        from onnxopt.keywords import with_checked_keywords

        found = with_checked_keywords(found, name, __name__)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(["OnnxoptError", "__version__", *_MODULES])
