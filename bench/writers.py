"""Every command that writes, the models and runs that they read, and what they left: for kills.py and full_disk.py."""

import hashlib
import importlib
import json
import multiprocessing
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import onnx

import onnxopt
from onnxopt.model_file import to_bytes
from tests.hostile.valid import valid_run
from tests.repairs.quantized import qdq_cnn

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "digits_mlp.onnx"
_FEW = "-d digits --limit 64 --steps 2 -o {w}/small.onnx --overwrite"
_SEARCH = "-d digits --limit 80 --time-limit 10"
_PASSES = {
    "simplify": "simplify", "prune": "prune-channels{{ratio=0.3}},prune-weights",
    "factorize": "factorize{{energy=0.9}}", "store": "quantize-weights,store-float16",
}  # fmt: skip
COMMANDS = {
    "quantize": "quantize {m} --mode dynamic -o {w}/small.onnx --overwrite",
    "quantize static": "quantize {m} -d digits --mode static -o {w}/small.onnx --overwrite",
    "quantize a folder": "quantize {f} --mode dynamic -o {w}/both",
    **{f"apply {n}": f"apply {{m}} --passes {p} -o {{w}}/small.onnx --overwrite" for n, p in _PASSES.items()},
    "repair": "repair {b} --seconds 0.05 -o {w}/small.onnx --overwrite",
    "variants": "variants {m} --for transformers.js --only q8 --only fp16 -o {w}",
    "variants beside a model": "variants {w}/small.onnx --for transformers.js --only q8 --only fp16",
    "export": "export {m} -o {w}/new.ort",
    "finetune": f"finetune {{m}} {_FEW}",
    "distill": f"distill {{m}} {{m}} {_FEW}",
    "data": "data digits --for {m} -o {w}/samples.npz",
    "data in a folder": "data digits --for {m} --limit 64 -o {w}/samples",
    "diagnose": "diagnose {m} {q} -d digits --limit 8 -o {w}/keep.toml --overwrite",
    "sensitivity": "sensitivity {m} -d digits --limit 8 --plot {w}/page.html --overwrite",
    "session": "session {w}/small.onnx --threads 1 --seconds 0.05 --overwrite",
    "bundle": "bundle {m} {q} -d digits -o {w}/kit",
    "report": "report {r}/valid -o {w}/page.html --overwrite",
    "device-result": "device-result {r}/valid/result.json --run {w}/given",
    "init": "init {m} -o {w}/keep.toml --overwrite",
    "init of a workflow": "init {m} --github -o {w}/flow.yml",
    "optimize": f"optimize {{m}} {_SEARCH} --out {{w}}/run",
    "optimize over a run": f"optimize {{m}} {_SEARCH} --out {{w}}/given --overwrite",
    "optimize a folder": f"optimize {{f}} {_SEARCH} --out {{w}}/run",
    "resume": "resume {w}/cut --time-limit 10",
}
"""Words of commands.

m is a model, q a quantized form of it, b a quantized model to mend, f a published folder with a model, r a folder that
is read, with a run, w the folder that is written to. It holds older outputs, a finished run (given) and a cut search
(cut).
"""

SEARCHES = {"optimize": "run", "optimize over a run": "given", "optimize a folder": "run", "resume": "cut"}
"""Folders that are written while a search runs: they must be whole or resumable after each end."""

FOLDERS = ("both/", "kit/", "samples/", "run/model/")
"""Folders that are written whole or not at all."""

MEASURING = ("session", "sensitivity", "repair", "device-result")
"""Their files hold measurements or times, so that no two are equal: a new one must be whole by its format."""


def command(words: str, names: dict[str, Path]) -> list[str]:
    """Return the command line of a command."""
    return [sys.executable, "-m", "onnxopt", *(word.format(**names) for word in words.split())]


def _run(words: list[str]) -> None:
    from onnxopt.cli.entry import main

    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os._exit(main(words))


def imported() -> None:
    """Import what commands import, so that processes forked later write for a larger part of their time."""
    found = pkgutil.walk_packages(onnxopt.__path__, "onnxopt.")
    ours = [module.name for module in found if not module.name.endswith("__main__")]
    for name in ("onnxruntime.quantization", "sklearn.datasets", "torch._dynamo", *ours):
        importlib.import_module(name)


def started(words: str, names: dict[str, Path]) -> multiprocessing.process.BaseProcess:
    """Start a command in a forked process."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(command(words, names)[3:],))
    process.start()
    return process


def digests(folder: Path) -> dict[str, str]:
    """Return the checksum of every visible file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    visible = (f for f in files if not any(part.startswith(".") for part in f.relative_to(folder).parts))
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in visible}


def prepared(names: dict[str, Path]) -> Path:
    """Make a folder that holds older outputs, runs, and a file of the user's own."""
    place = names["w"]
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name in ("keep.toml", "page.html", "mine.txt"):
        (place / name).write_text(f"old {name}\n")
    shutil.copy(MODEL, place / "small.onnx")
    for name, of in (("given", "valid"), ("cut", "cut")):
        shutil.copytree(names["r"] / of, place / name)
    return place


def sources(place: Path) -> dict[str, Path]:
    """Make the models and the runs that commands read."""
    names = {"m": MODEL, "q": place / "q.onnx", "b": place / "b.onnx", "f": place / "models", "r": place}
    names["w"] = place / "work"
    names["f"].mkdir()
    shutil.copy(MODEL, names["f"] / "model.onnx")
    (names["f"] / "config.json").write_text("{}\n")
    names["b"].write_bytes(to_bytes(qdq_cnn(zero=-128, branch=True)))
    _forked(_made_run, place / "valid")
    started("quantize {m} --mode dynamic -o {q}", names).join()
    words = command("optimize {m} -d digits --limit 80 --time-limit 90 --out {r}/cut", names)
    search = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while search.poll() is None and not _measured(place / "cut"):
        time.sleep(0.05)
    search.send_signal(signal.SIGINT)
    search.wait()
    if not _measured(place / "cut"):
        raise SystemExit("the search to resume ended before a trial")
    return names


def _forked(work: object, *given: object) -> None:
    # The runtime's threads would be lost to the processes that are forked later.
    process = multiprocessing.get_context("fork").Process(target=work, args=given)  # type: ignore[arg-type]
    process.start()
    process.join()


def _made_run(folder: Path) -> None:
    for name, data in valid_run(folder).items():
        (folder / name).write_bytes(data)


def _measured(run: Path) -> bool:
    journal = run / "journal.jsonl"
    return journal.exists() and len(journal.read_bytes().splitlines()) >= 3


def wrong(name: str, place: Path, before: dict[str, str], whole: dict[str, str]) -> list[str]:
    """Return what an end broke in the folder `place`: `whole` are the files that a finished command leaves."""
    after, within = digests(place), f"{SEARCHES.get(name, '-')}/"
    lost = [f"{file} is gone" for file in before if file not in after and not file.startswith(within)]
    changed = [f"{file} of the user's changed" for file in ("mine.txt",) if after.get(file) != before[file]]
    new = [file for file, digest in after.items() if digest != before.get(file)]
    mixed = [
        f"{file} is neither old nor new"
        for file in new
        if not file.startswith(within) and after[file] != whole.get(file)
        and not (name in MEASURING and file in whole and ends_well(place / file))
    ]  # fmt: skip
    mixed += [f"{file} is not whole" for file in new if file.startswith(within) and not ends_well(place / file)]
    searched = [file for file in {*new, *before} if file.startswith(within) and after.get(file) != before.get(file)]
    unfinished = unfit(place / SEARCHES[name]) if searched else ""
    return lost + mixed + changed + _parts(after, whole) + [unfinished] * bool(unfinished)


def _parts(after: dict[str, str], whole: dict[str, str]) -> list[str]:
    """Return the folders of which only a part is there."""
    there = {folder: [{file for file in of if file.startswith(folder)} for of in (after, whole)] for folder in FOLDERS}
    return [f"{folder} has {sorted(some)}" for folder, (some, every) in there.items() if some and every - some]


def ends_well(path: Path) -> bool:
    """Return whether a file is whole by its format."""
    try:
        if path.suffix == ".onnx":
            onnx.checker.check_model(onnx.load(path))
        if path.suffix == ".json":
            json.loads(path.read_text())
        return path.suffix != ".html" or path.read_text().rstrip().endswith("</html>")
    except Exception:
        return False


def unfit(run: Path) -> str:
    """Return what is wrong with the folder of a search that ended early."""
    if not run.exists() or not any(run.iterdir()):
        return ""
    found = subprocess.run([sys.executable, "-m", "onnxopt", "resume", str(run), "--time-limit", "1", "-q"],
                           cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    no_record = not (run / "run.json").exists() and found.returncode == 5
    busy = found.stderr.startswith("ONX408")  # the search went on, but the limit was too short here
    return "" if found.returncode in (0, 1) or no_record or busy else f"resume: {found.returncode} {found.stderr[:200]}"
