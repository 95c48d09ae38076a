"""Processes that run the same model at the same time, for one model after the other."""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from onnxopt.child import child_environment
from onnxopt.errors import NativeError, first_line
from onnxopt.measure.resources.energy import Meter, joules

PATIENCE_S = 60.0
"""Seconds beyond ten times the timed runs after which processes that do not answer are ended."""


class SideBySide:
    """A group of processes of `onnxopt.measure.runtime.turns_probe`, ended with the block."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._begun: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        """Start the processes."""
        command = [sys.executable, "-m", "onnxopt.measure.runtime.turns_probe"]
        pipe = subprocess.PIPE
        for _ in range(self._processes):
            one = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=child_environment())
            self._begun.append(one)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self._kill()
        for process in self._begun:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                with suppress(OSError):  # a line that the ended process never read
                    stream.close()

    def run(self, folder: Path, seconds: float, meter: Meter) -> tuple[list[np.ndarray], float | None]:
        """Load a model in every process and run it in all of them at once.

        Args:
            folder: the task folder of `onnxopt.measure.runtime.apart`.
            seconds: seconds of timed runs.
            meter: reads the energy that the processor has used.

        Returns:
            The times in ns of the runs of each process, and the energy in joules, None if it is not counted.

        Raises:
            NativeError: ONX401 a process failed.
        """
        end = threading.Timer(PATIENCE_S + 10 * seconds, self._kill)
        end.daemon = True
        end.start()
        try:
            self._said(str(folder))
            for process in self._begun:
                _line(process)
            before = meter()
            self._said(str(seconds))
            answers = [json.loads(_line(process)) for process in self._begun]
            energy = joules(before, meter())
        except (OSError, ValueError) as error:
            why = first_line(error)
            raise NativeError("ONX401", "a process that ran the model failed", why=why) from error
        finally:
            end.cancel()
        return [np.array(answer) for answer in answers], energy

    def _said(self, line: str) -> None:
        for process in self._begun:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended, which its next answer shows
                process.stdin.write(line + "\n")
                process.stdin.flush()

    def _kill(self) -> None:
        for process in self._begun:
            process.kill()


def _line(process: "subprocess.Popen[str]") -> str:
    """Return the next answer of a process."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    if not line:
        said = process.stderr.read().strip().splitlines()
        why = said[-1] if said else "the process ended"
        raise NativeError("ONX401", "ONNX Runtime failed while running the model", why=why)
    return line
