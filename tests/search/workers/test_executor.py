import multiprocessing
import os
import pickle
import time
from pathlib import Path

import pytest

from onnxopt.errors import DataError, ModelError, NativeError
from onnxopt.search.workers.executor import Isolated
from tests.search.inline import Inline

LINUX_ONLY = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits memory the Linux way")


def double(x):
    return 2 * x


def reject(name):
    raise DataError("ONX201", "no such data", where=name, hint="Look again.")


def stumble():
    raise KeyError("k")


def hoard(n):
    return len(bytearray(n))


def crash():
    os.abort()


@pytest.mark.parametrize("executor", [Inline(), Isolated()], ids=["inline", "isolated"])
def test_results_and_our_own_errors_come_through(executor):
    assert executor.submit(double, 21).result() == 42
    with pytest.raises(DataError, match="ONX201") as raised:
        executor.submit(reject, "x.npz").result()
    assert (raised.value.where, raised.value.hint) == ("x.npz", "Look again.")


def test_errors_survive_pickling():
    error = ModelError("ONX304", "cannot load", where="a", why="b", hint="c")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.code, type(copy)) == (str(error), "ONX304", ModelError)


def test_what_hangs_is_stopped():
    start = time.monotonic()
    with pytest.raises(NativeError, match="ONX406: a trial took too long"):
        Isolated(timeout_s=3).submit(time.sleep, 60).result()
    assert time.monotonic() - start < 30
    assert not multiprocessing.active_children()


def test_what_crashes_ends_alone():
    executor = Isolated()
    with pytest.raises(NativeError, match="SIGABRT"):
        executor.submit(crash).result()
    assert executor.submit(double, 1).result() == 2


def test_other_errors_become_one_line():
    with pytest.raises(NativeError, match="KeyError: 'k'"):
        Isolated().submit(stumble).result()


@LINUX_ONLY
def test_memory_is_limited():
    executor = Isolated(memory_bytes=1 << 30)
    assert executor.submit(hoard, 1 << 20).result() == 1 << 20
    with pytest.raises(NativeError, match="ran out of memory"):
        executor.submit(hoard, 2 << 30).result()


def test_who_cancels_ends_the_process_too():
    task = Isolated().submit(time.sleep, 60)
    while not multiprocessing.active_children():
        time.sleep(0.01)
    assert not task.cancel()  # it runs
    with pytest.raises(NativeError, match="given up"):
        task.result(timeout=30)
    assert not multiprocessing.active_children()
