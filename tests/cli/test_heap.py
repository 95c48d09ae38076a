"""The command has one heap for all its threads."""

import subprocess
import sys

import pytest

from onnxopt.child import child_environment
from onnxopt.cli import entry

COUNTED = """
import ctypes, sys, threading
from onnxopt.cli.entry import one_heap

if sys.argv[1] == "one":
    one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
places, ready = [], threading.Barrier(4)

def take():
    ready.wait()
    places.append([libc.malloc(1000) for _ in range(100)])
    ready.wait()

threads = [threading.Thread(target=take) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
with open("/proc/self/maps") as maps:
    low, high = next(line.split()[0].split("-") for line in maps if line.rstrip().endswith("[heap]"))
print(all(int(low, 16) <= place < int(high, 16) for mine in places for place in mine))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the heap of glibc")
@pytest.mark.parametrize(("heaps", "shared"), [("one", "True"), ("many", "False")])
def test_threads_share_one_heap(heaps: str, shared: str) -> None:
    command = [sys.executable, "-c", COUNTED, heaps]
    environment = child_environment()
    environment.pop("MALLOC_ARENA_MAX", None)
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == shared


FREED = """
import ctypes, sys
from onnxopt.cli.entry import one_heap

if sys.argv[1] == "one":
    one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

libc.free(libc.malloc(31 << 20))  # from here on glibc keeps all smaller blocks in the heap
before, blocks = resident(), []
for _ in range(20):  # weights of a session, with small blocks between them that stay
    blocks.append(libc.malloc(8 << 20))
    ctypes.memset(blocks[-1], 1, 8 << 20)
    libc.malloc(100_000)
for block in blocks:
    libc.free(block)
print(resident() - before < 40)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the heap of glibc")
@pytest.mark.parametrize(("heaps", "returned"), [("one", "True"), ("many", "False")])
def test_freed_weights_return_to_the_system(heaps: str, returned: str) -> None:
    environment = {k: v for k, v in child_environment().items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", FREED, heaps]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == returned


def test_the_command_sets_it_and_a_caller_of_main_decides_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(entry, "one_heap", lambda: called.append(True))
    assert entry.main(["--version"]) == 0
    assert called == []
    monkeypatch.setattr(sys, "argv", ["onnxopt", "--version"])
    assert entry.main() == 0
    assert called == [True]
