"""The words of every command that takes a model, samples or a run folder, for bench/fault_grid.py."""

import re
from pathlib import Path

from onnxopt.catalog import available_passes

_LABELLED = "-d {d} --label-column label"

LOOK = {
    "check": "check {m}",
    "inspect": "inspect {m}",
    "inspect schema": "inspect {m} --schema",
    "inspect spectrum": "inspect {m} --spectrum",
    "evaluate": "evaluate {m} -d {d}",
    "compare": "compare {m} {m} -d {d} --seconds 0.01",
    "benchmark": "benchmark {m} -d {d} --seconds 0.01",
    "benchmark profile": "benchmark {m} -d {d} --seconds 0.01 --profile",
    "generation": "generation {m} --prompt-tokens 2 --new-tokens 2 --seconds 0.01",
    "audit": "audit {f}",
}
"""Commands that write nothing."""

NOTES = {
    "diagnose": "diagnose {m} {m} -d {d} -o {o}/keep.toml",
    "sensitivity": "sensitivity {m} -d {d} --plot {o}/page.html",
    "session": "session {m} -d {d} --seconds 0.01 --threads 1",
    "data": "data {d} --for {m} -o {o}/samples.npz",
    "init": "init {m} -o {o}/options.toml",
    "init github": "init {m} --github -o {f}/flow.yml",
}
"""Commands that write no model."""

MODELS = {
    "bundle": "bundle {m} -d {d} -o {o}/kit",
    "export": "export {m} -o {o}/out.ort",
    "repair": "repair {m} --seconds 0.01 -o {o}/out.onnx",
    "variants": "variants {m} --for transformers.js --only fp16 --only q8 --only q4 -o {o}",
    "quantize dynamic": "quantize {m} --mode dynamic -o {o}/out.onnx",
    "quantize static": "quantize {m} -d {d} --mode static -o {o}/out.onnx",
    "quantize qoperator": "quantize {m} -d {d} --mode static --form qoperator -o {o}/out.onnx",
    "quantize auto": "quantize {m} -d {d} --mode auto -o {o}/out.onnx",
    "quantize folder": "quantize {f} --mode dynamic -o {o}/both",
    "apply simplify": "apply {m} --passes simplify -o {o}/out.onnx",
    "apply exact": "apply {m} -d {d} --passes fuse-attention,equalize,smooth-quant,absorb-biases -o {o}/out.onnx",
    "apply prune": "apply {m} --passes prune-channels,prune-groups,prune-heads,prune-blocks,prune-weights "
    "-o {o}/out.onnx",
    "apply factorize": "apply {m} -d {d} --passes factorize{{verify=false}},factorize-embeddings,"
    "depthwise-separable{{verify=false}},linearize-attention -o {o}/out.onnx",
    "apply store": "apply {m} --passes quantize-weights,share-weights,store-float16 -o {o}/out.onnx",
    "apply half": "apply {m} --passes compute-float16 -o {o}/out.onnx",
    "apply gradually": "apply {m} -d {d} --passes prune-gradually{{steps=1,rounds=1}} -o {o}/out.onnx",
    "apply qat": "apply {m} -d {d} --passes quantize-static,qat{{steps=1}} -o {o}/out.onnx",
    "apply student": "apply {m} -d {d} --passes narrow-student,distill{{steps=1}} -o {o}/out.onnx",
    "apply reconstruct": "apply {m} -d {d} --passes quantize-static,reconstruct-blocks{{steps=1}} -o {o}/out.onnx",
    "distill": "distill {m} {m} -d {d} --steps 1 -o {o}/out.onnx",
    "finetune": f"finetune {{m}} {_LABELLED} --steps 1 -o {{o}}/out.onnx",
    "optimize": "optimize {m} -d {d} --time-limit 2 --latency-seconds 0.1 --out {o}/run",
}
"""Commands that write a model."""

_NAMED = [*re.findall(r"[\w-]+", " ".join(MODELS.values())), "quantize-dynamic"]
if REST := sorted(set(available_passes()) - set(_NAMED)):
    MODELS["apply rest"] = f"apply {{m}} -d {{d}} --passes {','.join(REST)} -o {{o}}/out.onnx"

RUNS = {
    "report": "report {o}/run",
    "card": "card {o}/run",
    "verify": "verify {o}/run",
    "resume": "resume {o}/run --time-limit 1",
    "log-run": "log-run {o}/run --uri sqlite:///{o}/runs.db",
}
"""Commands on the folder that `optimize` left, if any."""

OF_MODEL = {**LOOK, **NOTES, **MODELS, **RUNS}

DATA_READERS = (
    *(name for name in ("apply rest",) if name in MODELS),
    "evaluate", "compare", "benchmark", "benchmark profile", "diagnose", "sensitivity", "session", "data", "bundle",
    "quantize static", "quantize qoperator", "quantize auto", "apply exact", "apply factorize", "apply reconstruct",
    "apply gradually", "apply qat", "apply student", "distill", "finetune", "optimize",
)  # fmt: skip
"""Commands whose samples may be at fault."""

OTHERS = {
    "worker": "takes an address of a scheduler",
    "mcp": "a server on standard input, whose tools are inspect, check, compare, optimize and repair",
    "passes": "takes nothing",
    "doctor": "takes nothing",
    "schema": "takes nothing",
    "completion": "takes the name of a shell",
}
"""Commands that are not run, and why."""

RUN_READERS = {
    "report": "report {f}",
    "report of two": "report {f} {f}",
    "card": "card {f}",
    "verify": "verify {f}",
    "resume": "resume {f} --time-limit 1",
    "log-run": "log-run {f} --uri sqlite:///{o}/runs.db",
    "report page": "report {f} -o {o}/page.html",
    "device-result": "device-result {f}/result.json",
    "device-result of a run": "device-result {f}/result.json --run {f}",
    "check": "check {f}/best.onnx",
    "compare": "compare {m} {f}/best.onnx -d digits --limit 8 --seconds 0.01",
    "benchmark": "benchmark {f}/best.onnx --seconds 0.01",
}
"""Commands on the folder of a run."""


def words(command: str, names: dict[str, str]) -> list[str]:
    """Return the words of a command with the names put in."""
    return [word.format(**names) for word in command.split()]


def paths(folder: Path) -> dict[str, Path]:
    """Return the places that commands name: the model alone in its folder, and the folder to write to."""
    return {"m": folder / "in" / "model.onnx", "f": folder / "in", "d": folder / "x.npz", "o": folder / "out"}
