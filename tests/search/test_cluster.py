"""A real Dask cluster of processes on loopback."""

import os
import signal
import sys
import time

import pytest

from onnxopt.errors import NativeError, UsageError
from onnxopt.search.cluster import Cluster, bench_resource, require_scheduler, worker_command

pytestmark = pytest.mark.slow


def slowly(x):
    time.sleep(0.3)
    return x * x


def length_and_worker(data):
    from distributed import get_worker

    return len(data), get_worker().name


def worker_name():
    from distributed import get_worker

    return get_worker().name


@pytest.fixture(scope="module")
def dask():
    distributed = pytest.importorskip("distributed")
    resources = [{bench_resource(): 1}, {}]
    spec = {
        i: {
            "cls": distributed.Nanny,
            "options": {"nthreads": 1, "resources": given, "dashboard_address": None, "host": "127.0.0.1"},
        }
        for i, given in enumerate(resources)
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard_address": None, "host": "127.0.0.1", "port": 0}}
    with distributed.SpecCluster(workers=spec, scheduler=scheduler, silence_logs=50) as cluster:
        yield cluster


def test_latency_goes_only_to_workers_that_offer_it(dask):
    with Cluster(dask.scheduler_address) as cluster:
        cluster.client.wait_for_workers(2)
        cluster.require_bench()
        timed = {future.result(60) for future in [cluster.bench.submit(worker_name) for _ in range(6)]}
        assert timed == {0}


def test_data_is_shared_by_content(dask):
    with Cluster(dask.scheduler_address) as cluster:
        cluster.client.wait_for_workers(2)
        handle, same = cluster.share(b"x" * 1000), cluster.share(b"x" * 1000)
        assert handle.key == same.key
        assert cluster.share(b"y").key != handle.key
        assert cluster.anywhere.submit(length_and_worker, handle).result(60)[0] == 1000


def test_a_killed_worker_loses_no_trial(dask):
    with Cluster(dask.scheduler_address) as cluster:
        cluster.client.wait_for_workers(2)
        pids = cluster.client.run(os.getpid)
        futures = [cluster.anywhere.submit(slowly, n) for n in range(12)]
        time.sleep(0.5)
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        assert [future.result(120) for future in futures] == [n * n for n in range(12)]


def test_no_worker_that_times_models(dask):
    with Cluster(dask.scheduler_address, resource="bench-arm64") as cluster:
        cluster.client.wait_for_workers(1)
        with pytest.raises(UsageError, match="onnxopt worker"):
            cluster.require_bench()


def test_a_scheduler_that_is_not_there():
    pytest.importorskip("distributed")
    with pytest.raises(NativeError, match="ONX407"), Cluster("tcp://127.0.0.1:9", timeout_s=1):
        pass


@pytest.mark.parametrize(
    ("address", "code"), [("tcp://127.0.0.1:9", "ONX407"), ("board", "ONX101"), ("tcp://a:b", "ONX101")]
)
def test_a_worker_is_told_at_once_that_there_is_no_scheduler(address, code):
    with pytest.raises((NativeError, UsageError), match=code):
        require_scheduler(address, timeout_s=2)


def test_the_worker_command():
    pytest.importorskip("distributed")
    command = worker_command("tcp://a:1", bench=True, threads=8, name="board", tls=())
    assert command[0] == sys.executable
    assert command[command.index("--nthreads") + 1] == "1"
    assert command[command.index("--resources") + 1] == f"{bench_resource()}=1"
    plain = worker_command("tcp://a:1", bench=False, threads=8, name=None, tls=("--tls-ca-file", "ca.pem"))
    assert plain[plain.index("--nthreads") + 1] == "8"
    assert "--resources" not in plain
    assert plain[-2:] == ["--tls-ca-file", "ca.pem"]


def test_resource_names():
    assert bench_resource("aarch64") == "bench-arm64"
    assert bench_resource("AMD64") == "bench-x86_64"
