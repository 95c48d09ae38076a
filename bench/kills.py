"""Kill commands that write at random moments, and look whether what was there is still whole.

python bench/kills.py --times 30 --out bench/results/kills.json

After every SIGKILL each older file must be as it was or as a finished command leaves it, and nothing but hidden files
and folders may be new beside them, except of `optimize`, whose folder must be resumable or empty.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from onnxopt.measure.runtime.environment import environment

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "digits_mlp.onnx"
COMMANDS = {
    "quantize": ["quantize", "{m}", "--mode", "dynamic", "-o", "{w}/small.onnx", "--overwrite"],
    "apply": ["apply", "{m}", "--passes", "simplify", "-o", "{w}/small.onnx", "--overwrite"],
    "diagnose": ["diagnose", "{m}", "{q}", "-d", "digits", "--limit", "8", "-o", "{w}/keep.toml", "--overwrite"],
    "sensitivity": ["sensitivity", "{m}", "-d", "digits", "--limit", "8", "--plot", "{w}/page.html", "--overwrite"],
    "init": ["init", "{m}", "-o", "{w}/keep.toml", "--overwrite"],
    "folder": ["quantize", "{f}", "--mode", "dynamic", "-o", "{w}/both"],
    "variants": ["variants", "{m}", "--for", "transformers.js", "--only", "q8", "--only", "fp16", "-o", "{w}"],
    "data": ["data", "digits", "--for", "{m}", "-o", "{w}/samples.npz"],
    "export": ["export", "{m}", "-o", "{w}/new.ort"],
    "report": ["report", "{r}", "-o", "{w}/page.html", "--overwrite"],
    "bundle": ["bundle", "{m}", "{q}", "-d", "digits", "-o", "{w}/kit"],
    "optimize": ["optimize", "{m}", "-d", "digits", "--limit", "80", "--time-limit", "10", "--out", "{w}/run"],
}
"""Words of commands.

m is a model, q a quantized form of it, f a folder with it, r a finished run, w the folder that is written to.
"""


def digests(folder: Path) -> dict[str, str]:
    """Return the checksum of every visible file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    visible = (f for f in files if not any(part.startswith(".") for part in f.relative_to(folder).parts))
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in visible}


def prepared(place: Path) -> Path:
    """Make a folder that holds older outputs, and a file of the user's own."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name in ("keep.toml", "page.html", "mine.txt"):
        (place / name).write_text(f"old {name}\n")
    shutil.copy(MODEL, place / "small.onnx")
    return place


def command(words: list[str], names: dict[str, Path]) -> list[str]:
    """Return the command line of a command."""
    return [sys.executable, "-m", "onnxopt", *(word.format(**names) for word in words)]


def started(words: list[str], names: dict[str, Path]) -> subprocess.Popen[bytes]:
    """Start a command."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command(words, names), cwd=ROOT, **quiet)


def sources(place: Path) -> dict[str, Path]:
    """Make the model, the quantized form and the run that commands read."""
    names = {"m": MODEL, "q": place / "q.onnx", "f": place / "models", "r": place / "run", "w": place}
    names["f"].mkdir()
    shutil.copy(MODEL, names["f"] / "model.onnx")
    started([*COMMANDS["quantize"][:4], "-o", "{q}"], names).wait()
    started(COMMANDS["optimize"], names).wait()
    return names


def wrong(name: str, before: dict[str, str], after: dict[str, str], whole: dict[str, str]) -> list[str]:
    """Return what a kill broke."""
    lost = [f"{file} is gone" for file in before if file not in after]
    mixed = [f"{file} is neither old nor new" for file, digest in after.items()
             if name != "optimize" and digest not in (before.get(file), whole.get(file))]  # fmt: skip
    changed = [f"{file} of the user's changed" for file in ("mine.txt",) if after.get(file) != before[file]]
    return lost + mixed + changed


def unfit(run: Path) -> str:
    """Return what is wrong with the folder of a search that was killed."""
    if not run.exists() or not any(run.iterdir()):
        return ""
    found = subprocess.run([sys.executable, "-m", "onnxopt", "resume", str(run), "--time-limit", "1", "-q"],
                           cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    no_record = not (run / "run.json").exists() and found.returncode == 5
    return "" if found.returncode in (0, 1) or no_record else f"resume: {found.returncode} {found.stderr[:200]}"


def main() -> None:
    """Kill, look, count."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=30, help="kills of each command")
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    luck, faults, killed = random.Random(0), list[str](), dict[str, int]()
    with tempfile.TemporaryDirectory(prefix="onnxopt-kills-") as name:
        place, read = Path(name) / "work", sources(Path(name))
        for of, words in COMMANDS.items():
            if not of.startswith(given.only):
                continue
            names = {**read, "w": prepared(place)}
            since = time.monotonic()
            started(words, names).wait()
            takes, whole = time.monotonic() - since, digests(place)
            killed[of] = 0
            for _ in range(given.times):
                before = digests(prepared(place))
                process = started(words, names)
                # Most of a command is work in memory; half of the kills aim at its end, where it writes.
                time.sleep(takes * (luck.random() if luck.random() < 0.5 else luck.uniform(0.85, 1.05)))
                killed[of] += process.poll() is None
                process.send_signal(signal.SIGKILL)
                process.wait()
                broken = wrong(of, before, digests(place), whole)
                broken += [why] if of == "optimize" and (why := unfit(place / "run")) else []
                faults += [f"{of}: {why}" for why in broken]
            print(f"{of}: {killed[of]} of {given.times} killed alive, {len(faults)} faults so far", flush=True)
    print("\n".join(faults))
    if given.out:
        result = {"times": given.times, "killed_alive": killed, "faults": faults, "environment": environment()}
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
