"""Private memory of a decoder while it generates, in a fresh process."""

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np

from onnxopt.child import child_environment
from onnxopt.measure.generation.speed import Decoder, Length
from onnxopt.measure.resources.memory import TIMEOUT_S
from onnxopt.measure.runtime.apart import task_folder
from onnxopt.measure.runtime.session import Runtime


def private_bytes(decoder: Decoder, prompt: np.ndarray, length: Length, runtime: Runtime) -> int | None:
    """Return the largest growth of private memory after the load and after each step; None if it is unknown.

    Raises:
        UsageError: ONX106 the provider is not available.
    """
    try:
        with task_folder(decoder.model, {"prompt": prompt, **decoder.start}, runtime) as folder:
            job = {"ports": asdict(decoder.ports), "new": length.new}
            (folder / "generation.json").write_text(json.dumps(job))
            done = subprocess.run(
                [sys.executable, "-m", "onnxopt.measure.generation.memory_probe", str(folder)],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=True,
                env=child_environment(),
            )
        found: int | None = json.loads(done.stdout)
        return found
    except (OSError, subprocess.SubprocessError, ValueError):  # optional: a measurement must not fail for it
        return None
