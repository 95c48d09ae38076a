"""Every command that writes, into read-only folders, on full disks and killed while it writes: nothing is lost."""

import ctypes
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest import mock

import pytest
import typer

import onnxopt
from onnxopt.cli.app import app
from onnxopt.model_file import to_bytes
from tests.cli.conftest import MODELS
from tests.hostile.valid import valid_run
from tests.repairs.quantized import qdq_cnn
from tests.run import fakes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rights and limits are taken as Linux does")
pytest.importorskip("sklearn")

_FEW = "-d digits --limit 32"
CASES = {
    "optimize": f"optimize {{m}} {_FEW} --out {{w}}/new",
    "optimize over a run": f"optimize {{m}} {_FEW} --out {{w}}/run --overwrite",
    "optimize a folder": f"optimize {{r}}/models {_FEW} --out {{w}}/new",
    "resume": "resume {w}/cut",
    "quantize": "quantize {m} --mode dynamic -o {w}/small.onnx --overwrite",
    "quantize a folder": "quantize {r}/models --mode dynamic -o {w}/new",
    "apply": "apply {m} --passes simplify -o {w}/new.onnx",
    "repair": "repair {r}/mendable.onnx --target x86-vnni -o {w}/small.onnx --overwrite",
    "variants": "variants {m} --for transformers.js -o {w}",
    "variants beside the model": "variants {w}/small.onnx --for transformers.js --only fp16 --only q8",
    "export": "export {m} -o {w}/new.ort",
    "distill": f"distill {{m}} {{m}} {_FEW} --steps 1 -o {{w}}/new.onnx",
    "finetune": f"finetune {{m}} {_FEW} --steps 1 -o {{w}}/small.onnx --overwrite",
    "finetune with a checkpoint": f"finetune {{m}} {_FEW} --steps 1 -o {{r}}/tuned.onnx --checkpoint {{w}}/new.pt",
    "data": "data digits --for {m} --limit 32 -o {w}/samples.npz --overwrite",
    "data in a folder": "data digits --for {m} --limit 4 -o {w}/new",
    "diagnose": "diagnose {m} {q} -d digits --limit 8 -o {w}/old.toml --overwrite",
    "sensitivity": "sensitivity {m} -d digits --limit 8 --plot {w}/old.html --overwrite",
    "session": "session {w}/small.onnx --threads 1 --seconds 0.05",
    "bundle": "bundle {m} {q} -d digits --samples 8 -o {w}/kit",
    "report": "report {r}/run -o {w}/old.html --overwrite",
    "device-result": "device-result {r}/run/result.json --run {w}/run",
    "init": "init {m} -o {w}/old.toml --overwrite",
    "init of a workflow": "init {w}/small.onnx --github -o {w}/flow.yml",
}  # fmt: skip
"""m is a model, q a quantized form of it, r a folder that is read, w the folder to write to."""

ELSEWHERE = {
    "log-run": "writes to an MLflow server",
    "mcp": "writes by optimize and repair",
    "verify": "reads its run",
    "card": "reads its run",
}
"""Commands with a path that is no output, or not theirs."""


def _parameters() -> dict[str, set[str]]:
    group = typer.main.get_command(app)
    context = group.make_context("onnxopt", ["check"], resilient_parsing=True)
    return {
        name: {str(p.name) for p in group.get_command(context, name).params} for name in group.list_commands(context)
    }


def test_every_command_that_writes_is_here() -> None:
    writing = {name for name, found in _parameters().items() if found & {"out", "plot", "run", "runs", "root"}}
    assert writing - set(ELSEWHERE) == {line.split()[0] for line in CASES.values()}


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextmanager
def _no_superuser() -> Iterator[None]:
    """Take from this thread the superuser's right to write everywhere (CAP_DAC_OVERRIDE)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, before, without = _Header(0x20080522, 0), (_Data * 2)(), (_Data * 2)()
    assert libc.capget(ctypes.byref(header), before) == 0
    libc.capget(ctypes.byref(header), without)
    without[0].effective &= ~(1 << 1)
    assert libc.capset(ctypes.byref(header), without) == 0
    try:
        yield
    finally:
        assert libc.capset(ctypes.byref(header), before) == 0


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        with _no_superuser():
            with pytest.raises(PermissionError):
                (folder / "probe").write_text("")
            yield
    finally:
        for path in folders:
            path.chmod(0o755)


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    """Let this process write no byte to any file."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _killed(folder: Path) -> Iterator[None]:
    """Have the command end where a file takes its place: the worst moment of a kill."""
    with (
        mock.patch.object(Path, "replace", side_effect=KeyboardInterrupt),
        mock.patch.object(Path, "rename", side_effect=KeyboardInterrupt),
    ):
        yield


def _everything(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what commands read: models with and without faults, a folder of models, runs that ended and were cut."""
    place, model = tmp_path_factory.mktemp("made"), MODELS / "digits_mlp.onnx"
    onnxopt.quantize(model, mode="dynamic", out=place / "q.onnx")
    (place / "models").mkdir()
    shutil.copy(model, place / "models" / "model.onnx")
    shutil.copy(model, place / "m.onnx")
    (place / "mendable.onnx").write_bytes(to_bytes(qdq_cnn(zero=-128, branch=True)))
    for name, data in valid_run(place / "run").items():
        (place / "run" / name).write_bytes(data)
    with mock.patch("onnxopt.run.recorder.search", fakes.cut_search), pytest.raises(KeyboardInterrupt):
        onnxopt.optimize(place / "m.onnx", "digits", limit=32, out=place / "cut")
    return place


@pytest.fixture
def names(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    work = tmp_path / "work"
    for run in ("run", "cut"):
        shutil.copytree(made / run, work / run)
    shutil.copy(made / "m.onnx", work / "small.onnx")
    for name in ("old.toml", "old.html", "samples.npz", "mine.txt"):
        (work / name).write_text(f"old {name}")
    (work / "cache" / "onnxopt").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(work / "cache"))
    monkeypatch.chdir(work)
    monkeypatch.setattr("onnxopt.tasks.repair._unmeasured", lambda target: "by no clock")
    monkeypatch.setattr(tempfile, "tempdir", None)
    return {"m": made / "m.onnx", "q": made / "q.onnx", "r": made, "w": work}


SEARCHES = {"optimize", "optimize over a run", "optimize a folder", "resume"}
"""Their folder is written while they run, so a kill leaves a part; bench/kills.py looks whether it can be resumed."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ruin", [_read_only, _full, _killed])
def test_what_cannot_be_written_ends_in_a_line_and_harms_nothing(
    cli, names: dict[str, Path], case: str, ruin: Callable[[Path], AbstractContextManager[None]]
) -> None:
    if case.startswith(("distill", "finetune")):
        pytest.importorskip("torch._dynamo")  # it writes files of its own while it is imported
    if ruin is _killed and case in SEARCHES:
        pytest.skip("a part of its folder stays")
    work, read = names["w"], names["r"]
    before, source = _everything(work), _everything(read)
    with ruin(work):
        ended = cli(*CASES[case].format(**names).split(), "-q")
    assert (ended.code, ended.err.count("\n")) == (130 if ruin is _killed else 5, 1), ended.err
    assert ended.err.startswith("interrupted" if ruin is _killed else "ONX503"), ended.err
    assert _everything(work) == before
    assert _everything(read) == source
