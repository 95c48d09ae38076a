"""The choice of a runner by the settings of a search."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import onnx_ir as ir

from onnxopt.search.limits.deadline import Deadline
from onnxopt.search.settings import Settings
from onnxopt.search.workers.cluster import Cluster, bench_resource, security_of
from onnxopt.search.workers.executor import Isolated
from onnxopt.search.workers.runner import RemoteRunner, Runner, TaskInputs


@contextmanager
def runner_for(
    model: ir.Model, work: TaskInputs, settings: Settings, deadline: Deadline, here: Callable[[], Runner]
) -> Iterator[Runner]:
    """Provide a runner: on a cluster; in separate processes if trials have limits; else in this process.

    Args:
        model: the baseline.
        work: the inputs of all tasks.
        settings: settings with the cluster and the limits.
        deadline: deadline to check during waits for results.
        here: creates the runner of this process.
    """
    if settings.cluster is not None:
        with Cluster(settings.cluster, settings.bench or bench_resource(), security_of(settings.tls)) as cluster:
            cluster.require_bench()

            def check_bench() -> None:
                deadline.check()
                cluster.check_bench()

            yield RemoteRunner(
                model,
                work,
                cluster.anywhere,
                bench=cluster.bench,
                share=cluster.share,
                check=deadline.check,
                check_bench=check_bench,
            )
    elif settings.trial_timeout_s is not None or settings.memory_limit_bytes is not None:
        isolated = Isolated(settings.trial_timeout_s, settings.memory_limit_bytes)
        yield RemoteRunner(model, work, isolated, check=deadline.check)
    else:
        yield here()
