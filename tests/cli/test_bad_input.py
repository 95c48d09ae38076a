"""Whatever a user gets wrong ends in one clear line, the right exit code, and files as they were."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.conftest import MODELS

IMAGES = np.random.RandomState(0).standard_normal((24, 1, 8, 8)).astype("float32")
LABELS = np.arange(24) % 10


def _late_nan() -> np.ndarray:
    images = IMAGES.copy()
    images[-1, 0, 0, 0] = np.nan
    return images


ARCHIVES = {
    "good": {"image": IMAGES, "y": LABELS},
    "other_shape": {"image": IMAGES.transpose(0, 2, 3, 1), "y": LABELS},
    "other_type": {"image": np.zeros(IMAGES.shape, "uint8"), "y": LABELS},
    "other_name": {"picture": IMAGES, "mask": IMAGES, "y": LABELS},
    "empty": {"image": IMAGES[:0], "y": LABELS[:0]},
    "too_few": {"image": IMAGES[:3], "y": LABELS[:3]},
    "fewer_labels": {"image": IMAGES, "y": LABELS[:-1]},
    "wrong_classes": {"image": IMAGES, "y": LABELS + 50},
    "nan": {"image": np.full_like(IMAGES, np.nan), "y": LABELS},
    "late_nan": {"image": _late_nan(), "y": LABELS},
    "no_labels": {"image": IMAGES},
    "names": {"image": IMAGES, "y": np.array(["cat", "dog"] * 12)},
}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with models, data and results, good and bad, and the working directory."""
    monkeypatch.chdir(tmp_path)
    whole = (MODELS / "digits_resnet.onnx").read_bytes()
    shutil.copy(MODELS / "digits_resnet.onnx", "model.onnx")
    shutil.copy(MODELS / "digits_mlp.onnx", "mlp.onnx")
    Path("truncated.onnx").write_bytes(whole[: len(whole) // 2])
    Path("not_onnx.onnx").write_text("this is no model")
    Path("empty.onnx").write_bytes(b"")
    Path("typo.toml").write_text('max-drp = "1pp"\n')
    Path("broken.toml").write_text("max-drop = \n")
    Path("metric.py").write_text("def fails(outputs, labels):\n    raise ValueError('no')\n")
    model = onnx.load("model.onnx")
    onnx.save(model, "apart.onnx", save_as_external_data=True, location="apart.bin", size_threshold=0)
    name = model.graph.node[1].output[0].encode()
    Path("flipped.onnx").write_bytes(whole.replace(name, b"\xff" + name[1:]))
    model.graph.node[1].input[0] = "nowhere"
    onnx.save(model, "dangling.onnx")
    Path("run").mkdir()
    shutil.copy(MODELS / "digits_mlp.onnx", "run/best.onnx")
    np.savez("run/golden.npz", **ARCHIVES["good"])
    Path("used").mkdir()
    Path("used/notes.txt").write_text("mine")
    for name, arrays in ARCHIVES.items():
        np.savez(f"{name}.npz", **arrays)
    Path("damaged.npz").write_bytes(Path("good.npz").read_bytes()[:500])
    return tmp_path


def _listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


CASES = [
    ("optimize missing.onnx -d good.npz", 5, "ONX501"),
    ("optimize truncated.onnx -d good.npz", 3, "ONX301"),
    ("optimize not_onnx.onnx -d good.npz", 3, "ONX301"),
    ("inspect empty.onnx", 3, "ONX301"),
    ("inspect used", 5, "ONX505"),
    ("optimize model.onnx -d missing.npz", 2, "ONX201"),
    ("optimize model.onnx -d damaged.npz", 2, "ONX201"),
    ("optimize model.onnx -d other_name.npz", 2, "ONX202"),
    ("optimize model.onnx -d other_shape.npz", 2, "ONX203"),
    ("optimize model.onnx -d other_type.npz", 2, "ONX204"),
    ("optimize model.onnx -d empty.npz", 2, "ONX205"),
    ("optimize model.onnx -d too_few.npz", 2, "ONX205"),
    ("optimize model.onnx -d fewer_labels.npz", 2, "ONX206"),
    ("optimize model.onnx -d nan.npz", 2, "ONX207"),
    ("optimize model.onnx -d late_nan.npz", 2, "ONX207"),
    ("evaluate model.onnx -d late_nan.npz", 2, "ONX207"),
    ("evaluate model.onnx -d no_labels.npz", 2, "ONX208"),
    ("optimize model.onnx -d no_labels.npz --metric top1", 2, "ONX208"),
    ("optimize model.onnx -d wrong_classes.npz", 2, "ONX209"),
    ("evaluate model.onnx -d good.npz --output logit", 2, "ONX209"),
    ("evaluate model.onnx -d good.npz --metric metric.py:fails", 2, "ONX107"),
    ("evaluate model.onnx -d good.npz --metric none.py:fails", 2, "ONX107"),
    ("evaluate model.onnx -d good.npz --metric top7", 2, "ONX102"),
    ("optimize model.onnx -d good.npz --max-drp 1pp", 2, "ONX102"),
    ("optmize model.onnx -d good.npz", 2, "ONX102"),
    ("optimize model.onnx -d good.npz --target x86-vnnni", 2, "ONX102"),
    ("optimize model.onnx -d good.npz --config typo.toml", 2, "ONX102"),
    ("optimize model.onnx -d good.npz --config broken.toml", 2, "ONX105"),
    ("optimize model.onnx -d good.npz --config none.toml", 2, "ONX105"),
    ("optimize model.onnx -d good.npz --max-drop little", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --max-drop 1", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --metric rmse --max-drop 1pp", 2, "ONX101"),
    ("compare model.onnx model.onnx -d good.npz --max-drop 1", 2, "ONX101"),
    ("optimize model.onnx -d names.npz", 2, "ONX206"),
    ("optimize model.onnx -d good.npz --optimization-level most", 2, "ONX101"),
    ("evaluate model.onnx -d good.npz --optimization-level 99", 2, "ONX101"),
    ("benchmark model.onnx --optimization-level ALLL", 2, "ONX101"),
    ("compare model.onnx model.onnx -d good.npz --optimization-level most", 2, "ONX101"),
    ("evaluate model.onnx -d good.npz --session-option fast", 2, "ONX101"),
    ("evaluate model.onnx -d good.npz --session-option =1", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --goal speed", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --threads two", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --threads 0", 2, "ONX101"),
    ("benchmark model.onnx --threads 99999", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --confidence 1.5", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --batch-size 0", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --mean a,b", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --size 8x8x8", 2, "ONX101"),
    ("benchmark model.onnx --seconds -1", 2, "ONX101"),
    ("inspect model.onnx --dim batch", 2, "ONX101"),
    ("benchmark model.onnx --seconds inf", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --latency-seconds nan", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --labels damaged.npz", 2, "ONX201"),
    ("benchmark", 2, "ONX113"),
    ("inspect", 2, "ONX113"),
    ("optimize", 2, "ONX113"),
    ("optimize model.onnx -d good.npz --calibration good.npz", 2, "ONX115"),
    ("quantize model.onnx -o out.onnx", 2, "ONX114"),
    ("quantize model.onnx -o out.onnx --mode dynamic --method mse", 2, "ONX112"),
    ("apply model.onnx -o out.onnx --passes quantize-static", 2, "ONX114"),
    ("apply model.onnx -o out.onnx --passes simplfy", 2, "ONX103"),
    ("apply model.onnx -o out.onnx --passes simplify{fuze=true}", 2, "ONX102"),
    ("apply model.onnx -o out.onnx --passes simplify{fuse=", 2, "ONX104"),
    ("evaluate model.onnx -d good.npz --provider cuda", 2, "ONX106"),
    ("evaluate model.onnx -d good.npz --provider gpu9", 2, "ONX102"),
    ("compare model.onnx mlp.onnx -d good.npz", 3, "ONX308"),
    ("benchmark model.onnx mlp.onnx", 3, "ONX308"),
    ("optimize model.onnx -d good.npz -o used", 5, "ONX502"),
    ("quantize model.onnx -d good.npz -o mlp.onnx", 5, "ONX502"),
    ("optimize model.onnx -d good.npz -o model.onnx", 5, "ONX503"),
    ("optimize model.onnx -d good.npz -o model.onnx/run", 5, "ONX503"),
    ("optimize model.onnx -d good.npz -o /proc/run", 5, "ONX503"),
    ("quantize model.onnx -d good.npz -o no/such/out.onnx", 5, "ONX503"),
    ("quantize model.onnx -d good.npz -o used --overwrite", 5, "ONX503"),
    ("quantize model.onnx -d good.npz -o model.onnx --overwrite", 5, "ONX504"),
    ("quantize apart.onnx -d good.npz -o apart.bin --overwrite", 5, "ONX504"),
    ("quantize model.onnx -d good.npz -o good.npz --overwrite", 5, "ONX504"),
    ("quantize model.onnx -d good.npz -o good.npz --mode auto --overwrite", 5, "ONX504"),
    ("optimize model.onnx -d run/golden.npz -o run --overwrite", 5, "ONX504"),
    ("sensitivity model.onnx -d good.npz --plot good.npz --overwrite", 5, "ONX504"),
    ("init model.onnx -d good.npz -o good.npz --overwrite", 5, "ONX504"),
    ("inspect flipped.onnx", 3, "ONX301"),
    ("evaluate flipped.onnx -d good.npz", 3, "ONX301"),
    ("inspect dangling.onnx", 3, "ONX305"),
    ("quantize dangling.onnx -d good.npz -o out.onnx", 3, "ONX305"),
    ("optimize model.onnx -d good.npz --seed -1", 2, "ONX101"),
    ("benchmark model.onnx --seed 99999999999", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --max-drop 200%", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --max-drop 100pp", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --memory-limit abc", 2, "ONX101"),
    ("optimize model.onnx -d good.npz --strategy size --goal latency", 2, "ONX109"),
    ("optimize model.onnx -d good.npz --strategy mobile --prune", 2, "ONX109"),
    ("optimize model.onnx -d good.npz --strategy edge --train", 2, "ONX109"),
    ("optimize model.onnx -d good.npz --dry-run --output logit", 2, "ONX209"),
    ("optimize model.onnx -d good.npz --dry-run --provider gpu9", 2, "ONX102"),
]


@pytest.mark.parametrize(("line", "exit_code", "code"), CASES, ids=[line for line, _, _ in CASES])
def test_one_clear_line_and_nothing_changed(place, cli, line, exit_code, code):
    before = _listing(place)
    ended = cli(*line.split())
    assert ended.code == exit_code
    assert ended.out == ""
    assert ended.err.startswith(f"{code}: ")
    assert ended.err.count("\n") == 1
    assert _listing(place) == before


@pytest.mark.parametrize(
    ("line", "exit_code", "code"),
    [
        ("optimize truncated.onnx -d good.npz", 3, "ONX301"),
        ("optimize model.onnx -d late_nan.npz", 2, "ONX207"),
    ],
)
def test_the_same_in_a_process_of_its_own(place, line, exit_code, code):
    before = _listing(place)
    done = subprocess.run([sys.executable, "-m", "onnxopt", *line.split()], capture_output=True, check=False, text=True)
    assert done.returncode == exit_code
    assert done.stdout == ""
    assert done.stderr.startswith(f"{code}: ")
    assert "Traceback" not in done.stderr
    assert _listing(place) == before


def test_the_nearest_names_are_offered(place, cli):
    assert "--max-drop" in cli("optimize", "model.onnx", "-d", "good.npz", "--max-drp", "1pp").err
    assert "'max-drop'" in cli("optimize", "model.onnx", "-d", "good.npz", "--config", "typo.toml").err
    assert "'optimize'" in cli("optmize").err


def test_no_name_of_data_is_not_the_working_directory(place, cli):
    assert cli("evaluate", "model.onnx", "-d", "").err.startswith("ONX201: there is no data by this name")


def test_a_bug_is_distinguished_from_a_mistake(place, cli, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr("onnxopt.tasks.inspect.inspect_model", fail)
    ended = cli("inspect", "model.onnx")
    assert ended.code == 70
    assert ended.err.startswith("ONX901: ")
    assert "RuntimeError: unexpected" in ended.err
    assert "Traceback" not in ended.err
    assert "Traceback" in cli("inspect", "model.onnx", "-v").err


def test_a_reader_that_has_enough_is_no_error(place):
    command = f"{sys.executable} -m onnxopt passes | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error_and_no_file_takes_their_numbers(place, closed):
    code = (
        "import os; from onnxopt.cli.entry import main; code = main(); [os.fstat(n) for n in range(3)]; os._exit(code)"
    )
    words = ["-c", code, "benchmark", "model.onnx", "--seconds", "0.01"]
    command = f"{shlex.join([sys.executable, *words])} {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("p50 ms" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_a_deleted_folder_is_refused_in_a_line(place):
    gone = place / "gone"
    gone.mkdir()
    command = f"cd gone && rmdir ../gone && {sys.executable} -m onnxopt inspect {place}/model.onnx"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, text=True)
    assert done.returncode == 5
    assert done.stderr.startswith("ONX501: the current folder does not exist any more")
    assert done.stderr.count("\n") == 1


def test_a_memory_limit_is_no_target(place, cli):
    said = cli("optimize", "model.onnx", "-d", "good.npz", "--memory-limit", "abc").err
    assert "the memory limit cannot be read" in said
    assert "target" not in said
