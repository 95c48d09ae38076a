"""Do with one extra what it is for: `python extra_works.py EXTRA MODELS OUT`, in an environment that has it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

EXTRA, MODELS, OUT = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
MLP = MODELS / "digits_mlp.onnx"


def onnxopt(*words: object) -> None:
    program = Path(sys.executable).with_name("onnxopt")
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
    # A search in which nothing won ends with 1, and has worked.
    if done.returncode not in ((0, 1) if words[0] == "optimize" else (0,)):
        raise SystemExit(f"{EXTRA}: onnxopt {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")


def rows(count: int = 48) -> np.ndarray:
    """Return made-up inputs of the digits network."""
    from onnxopt import model_file

    (spec,) = model_file.signature_of(model_file.load(MLP)).inputs
    shape = [count, *(d if isinstance(d, int) else 1 for d in spec.shape[1:])]
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def stored() -> Path:
    path = OUT / "rows.npz"
    np.savez(path, **{"x": rows()})
    return path


def digits() -> None:
    onnxopt("evaluate", MLP, "--data", "digits")


def images() -> None:
    from PIL import Image

    folder = OUT / "images"
    folder.mkdir()
    for index in range(8):
        Image.fromarray(np.full((8, 8), 30 * index, np.uint8)).save(folder / f"{index}.png")
    onnxopt(
        "apply",
        MODELS / "digits_resnet.onnx",
        "--passes",
        "simplify,quantize-static",
        "--data",
        folder,
        "-o",
        OUT / "q.onnx",
    )


def audio() -> None:
    import soundfile

    folder = OUT / "sounds"
    folder.mkdir()
    for index in range(4):
        soundfile.write(folder / f"{index}.flac", np.sin(np.arange(4800) * (index + 1) / 50) / 2, 16000)
    onnxopt("data", folder, "--for", MLP, "-o", OUT / "windows.npz")
    onnxopt("apply", MLP, "--passes", "quantize-static", "--data", OUT / "windows.npz", "-o", OUT / "q.onnx")


def mcp() -> None:
    import asyncio

    from mcp import Client, StdioServerParameters

    program = str(Path(sys.executable).with_name("onnxopt"))

    async def ask() -> None:
        async with Client(StdioServerParameters(command=program, args=["mcp", "--root", str(MODELS)])) as client:
            assert (await client.call_tool("inspect", {"model": MLP.name})).structured_content["parameters"] > 0

    asyncio.run(ask())


def tables() -> None:
    import pyarrow
    from pyarrow import parquet

    flat = rows().reshape(48, -1)
    path = OUT / "rows.parquet"
    parquet.write_table(pyarrow.table({f"c{i}": column for i, column in enumerate(flat.T)}), path)
    onnxopt("apply", MLP, "--passes", "quantize-static", "--data", path, "-o", OUT / "q.onnx")


def text() -> None:
    from tokenizers import Tokenizer, models

    assert Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).encode("a").ids == [0]
    onnxopt("doctor")


def dask() -> None:
    import socket
    import time

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
    ]
    worker = [Path(sys.executable).with_name("onnxopt"), "worker", address, "--bench"]
    running = [subprocess.Popen(scheduler, stderr=subprocess.DEVNULL)]
    try:
        time.sleep(8)
        running.append(subprocess.Popen(worker, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        time.sleep(12)
        onnxopt("optimize", MLP, "--data", stored(), "--cluster", address, "--time-limit", "20", "--out", OUT / "run")
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()


def train() -> None:
    onnxopt(
        "apply",
        MLP,
        "--passes",
        "prune-channels{ratio=0.25},distill{steps=5}",
        "--data",
        stored(),
        "-o",
        OUT / "t.onnx",
    )


def mlflow() -> None:
    onnxopt("optimize", MLP, "--data", stored(), "--time-limit", "10", "--out", OUT / "run")
    onnxopt("log-run", OUT / "run", "--uri", f"sqlite:///{OUT / 'store.db'}")


def sklearn() -> None:
    from sklearn.linear_model import LogisticRegression

    import onnxopt as package

    x = rows().reshape(48, -1)
    package.export(LogisticRegression(max_iter=50).fit(x, np.arange(48) % 3), out=OUT / "m.onnx", inputs=x[:4])


def export() -> None:
    import torch

    import onnxopt as package

    package.export(
        torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()), out=OUT / "m.onnx", inputs=torch.randn(2, 4)
    )


def keras() -> None:
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    import keras as framework

    import onnxopt as package

    model = framework.Sequential([framework.Input((4,)), framework.layers.Dense(3)])
    package.export(model, out=OUT / "m.onnx", inputs=np.zeros((2, 4), np.float32))


def jax() -> None:
    import jax.numpy as jnp

    import onnxopt as package

    package.export(lambda x: jnp.tanh(x @ jnp.ones((4, 3))), out=OUT / "m.onnx", inputs=np.zeros((2, 4), np.float32))


def tensorflow() -> None:
    import tensorflow as tf

    import onnxopt as package

    layer = tf.Module()
    layer.weight = tf.Variable(tf.ones((4, 3)))
    function = tf.function(lambda x: x @ layer.weight, input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
    tf.saved_model.save(layer, str(OUT / "saved"), signatures=function.get_concrete_function())
    package.export(OUT / "saved", out=OUT / "m.onnx", inputs=np.zeros((2, 4), np.float32))


def trees() -> None:
    import onnxmltools

    assert onnxmltools.__version__
    sklearn()


WORKS: dict[str, Callable[[], None]] = {
    f.__name__: f
    for f in (digits, images, tables, text, dask, train, mlflow, sklearn, trees, export, keras, jax, tensorflow)
}

OUT.mkdir(parents=True)
WORKS[EXTRA]()
