"""A real Dask cluster of processes on loopback."""

import os
import signal
import sys
import time
from concurrent.futures import CancelledError, Executor, Future
from pathlib import Path

import pytest

from onnxopt.catalog import parse
from onnxopt.errors import NativeError, UsageError
from onnxopt.pipeline import Context
from onnxopt.search import optimize
from onnxopt.search.bets import TrialOrder
from onnxopt.search.budget import Budget
from onnxopt.search.candidates import first_candidates
from onnxopt.search.losses import MeasuredLosses
from onnxopt.search.observer import NullObserver
from onnxopt.search.optimize import search
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate
from onnxopt.search.workers import cluster as cluster_module
from onnxopt.search.workers.cluster import Cluster, bench_resource, require_scheduler, security_of, worker_command
from onnxopt.search.workers.runner import LocalRunner, RemoteRunner
from onnxopt.target import target_of
from tests.search.fakes import model, parts
from tests.search.workers.test_runner import work

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
    scheduler["options"]["allowed_failures"] = 1
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


def test_sensitivity_is_measured_by_any_worker(dask):
    base, specs = (
        parse("simplify{fuse=false}"),
        parse("quantize-static,quantize-static{method=entropy},quantize-dynamic"),
    )
    asked = work()
    with Cluster(dask.scheduler_address) as cluster:
        cluster.client.wait_for_workers(2)
        runner = RemoteRunner(model(), asked, cluster.anywhere, bench=cluster.bench, share=cluster.share)
        found = runner.losses(base, specs)
    context = Context(target_of(asked.target), asked.calibration, seed=asked.seed)
    assert found == pytest.approx(MeasuredLosses(model(), context)(base, specs))
    assert all(0 < loss < 1 for loss in found)


class Killer(NullObserver):
    """Kills the worker that times models when a candidate is begun."""

    def __init__(self, address: str, at: str) -> None:
        self.address, self.at, self.killed = address, at, 0

    def started(self, candidate):
        if candidate.name == self.at:
            with Cluster(self.address) as cluster:
                workers = cluster.client.scheduler_info(n_workers=-1)["workers"]
                pids = cluster.client.run(os.getpid)
                self.killed = next(pid for where, pid in pids.items() if workers[where]["resources"])
            os.kill(self.killed, signal.SIGKILL)


def test_a_search_on_a_cluster_loses_no_trial_with_a_worker(dask, monkeypatch):
    plan = tuple(c for c in first_candidates() if c.name in ("simplify", "dynamic"))
    asked = {"budget": Budget(0.5), "target": "x86-vnni", "latency_s": 0.02}
    monkeypatch.setattr(optimize, "first_candidates", lambda: plan)
    monkeypatch.setattr(optimize, "order_of", lambda candidates, _: TrialOrder(candidates, (), ()))
    here = search(model(), parts(), None, Settings(**asked))
    killer = Killer(dask.scheduler_address, "dynamic")
    there = search(model(), parts(), None, Settings(**asked, cluster=dask.scheduler_address), killer)
    assert killer.killed
    drops = {t.candidate.name: t.drop.value for t in there.trials if t.drop is not None}
    assert "dynamic" in drops
    assert all(drops[t.candidate.name] == t.drop.value for t in here.trials if t.candidate.name in drops and t.drop)
    assert all(t.latency is not None for t in there.trials if t.drop is not None)


class Ends(Executor):
    """Every task ends with the same error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_exception(self.error)
        return future


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("4 workers died"), "ONX406"), (CancelledError(), "ONX407")])
def test_what_a_cluster_raises_is_one_line(error, code):
    apart = RemoteRunner(model(), work(), Ends(error), bench=Ends(error))
    with pytest.raises(NativeError, match=code):
        apart.build(Candidate("any", ()))
    with pytest.raises(NativeError, match=code):
        apart.latency({"any": model()}, 0.1)


def test_a_lost_scheduler_ends_the_search_and_blames_no_candidate(monkeypatch):
    def lost(self, candidate):
        raise NativeError("ONX407", "the connection to the cluster was lost")

    monkeypatch.setattr(LocalRunner, "build", lost)
    with pytest.raises(NativeError, match="ONX407"):
        search(model(), parts(), None, Settings(Budget(0.5), latency_s=0.02))


def test_a_wait_for_lost_workers_that_time_models_has_an_end(dask, monkeypatch):
    monkeypatch.setattr(cluster_module, "PATIENCE_S", 0.5)
    monkeypatch.setattr(cluster_module, "_LOOK_S", 0.1)
    with Cluster(dask.scheduler_address, resource="bench-arm64") as cluster:
        apart = RemoteRunner(
            model(), work(), cluster.anywhere, bench=cluster.bench, share=cluster.share, check_bench=cluster.check_bench
        )
        with pytest.raises(NativeError, match=r"ONX407.*were lost.*bench-arm64.*onnxopt worker"):
            apart.latency({"any": model()}, 0.1)
    with Cluster(dask.scheduler_address) as cluster:
        cluster.client.wait_for_workers(2)
        cluster.require_bench()
        for _ in range(3):
            time.sleep(0.4)
            cluster.check_bench()


def test_patience_begins_when_a_worker_is_missed(dask, monkeypatch):
    monkeypatch.setattr(cluster_module, "PATIENCE_S", 0.5)
    monkeypatch.setattr(cluster_module, "_LOOK_S", 0.1)
    with Cluster(dask.scheduler_address, resource="bench-arm64") as cluster:
        time.sleep(0.7)  # a long build, in which nobody looks
        cluster.check_bench()
        time.sleep(0.7)
        with pytest.raises(NativeError, match="were lost"):
            cluster.check_bench()


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
def test_a_worker_without_a_scheduler_fails_at_once(address, code):
    with pytest.raises((NativeError, UsageError), match=code):
        require_scheduler(address, timeout_s=2)


def test_the_worker_command():
    pytest.importorskip("distributed")
    command = worker_command("tcp://a:1", bench=True, tasks=8, name="board", tls=())
    assert command[0] == sys.executable
    assert command[command.index("--nthreads") + 1] == command[command.index("--nworkers") + 1] == "1"
    assert command[command.index("--resources") + 1] == f"{bench_resource()}=1"
    plain = worker_command("tcp://a:1", bench=False, tasks=8, name=None, tls=("--tls-ca-file", "ca.pem"))
    assert plain[plain.index("--nworkers") + 1] == "8"
    assert "--resources" not in plain
    assert plain[-2:] == ["--tls-ca-file", "ca.pem"]


def test_resource_names():
    assert bench_resource("aarch64") == "bench-arm64"
    assert bench_resource("AMD64") == "bench-x86_64"


def test_an_encrypted_connection(tmp_path):
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("cryptography", reason="makes the certificate")
    made = distributed.Security.temporary()
    files = tuple(str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    for path, text in zip(files, (made.tls_ca_file, made.tls_client_cert, made.tls_client_key), strict=True):
        Path(path).write_text(text)
    scheduler = {"dashboard_address": None, "host": "127.0.0.1", "port": 0, "protocol": "tls://", "security": made}
    worker = {"nthreads": 1, "dashboard_address": None, "host": "127.0.0.1", "security": made, "protocol": "tls://"}
    with distributed.SpecCluster(
        workers={0: {"cls": distributed.Worker, "options": worker}},
        scheduler={"cls": distributed.Scheduler, "options": scheduler},
        security=made,
        silence_logs=50,
    ) as running:
        address = running.scheduler_address
        assert address.startswith("tls://")
        require_scheduler(address)
        with Cluster(address, security=security_of(files)) as cluster:
            assert cluster.anywhere.submit(len, cluster.share(b"abc")).result(20) == 3
        with pytest.raises(NativeError, match="ONX407"), Cluster(address, timeout_s=1):
            pass
