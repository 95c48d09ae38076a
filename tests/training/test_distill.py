"""Students learn from teachers on data that nobody labelled."""

import socket
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import multiprocessing

from onnxopt.errors import DataError, FileError, ModelError
from onnxopt.model_file import signature_of, to_bytes
from onnxopt.samples import Samples, open_samples
from onnxopt.training import trainer
from onnxopt.training.batches import Batches, split_held_out
from onnxopt.training.distill import Distillation, distill
from onnxopt.training.module.weights import constants_of
from onnxopt.training.schedule import Schedule
from tests import builders

FAST = Schedule(1, batch_size=16, lr=1e-2, evaluations=5, patience=9)


def data(model: ir.Model, count: int = 96, labels: np.ndarray | None = None) -> Samples:
    rng = np.random.default_rng(0)
    (spec,) = signature_of(model).inputs
    shape = [count, *(d if isinstance(d, int) else 4 for d in spec.shape[1:])]
    arrays = {spec.name: rng.normal(size=shape).astype(np.float32)}
    return open_samples(arrays, signature_of(model), labels=labels)


def spoiled(model: ir.Model, name: str | None = None) -> ir.Model:
    """Return a copy with noise in its matrices and filters."""
    rng, copy = np.random.default_rng(1), model.clone()
    for value, tensor in constants_of(copy):
        array = tensor.numpy()
        if array.ndim >= 2 and array.dtype == np.float32 and name in (None, value.name) and value.producer() is None:
            value.const_value = ir.tensor(array + 0.3 * array.std() * rng.normal(size=array.shape).astype(np.float32))
    return copy


@pytest.mark.parametrize("name", ["gemm_mlp", "residual_cnn"])
def test_a_spoiled_student_gets_closer_to_its_teacher(name):
    teacher = builders.BUILDERS[name]()
    student = spoiled(teacher)
    before = to_bytes(student)
    done = distill(student, teacher, data(teacher), Distillation(steps=60, schedule=FAST))
    assert done.trained is not None
    assert done.trained.after < 0.5 * done.trained.before
    assert to_bytes(student) == before
    assert to_bytes(done.model) != before
    assert [n.op_type for n in done.model.graph] == [n.op_type for n in student.graph]


@pytest.mark.parametrize("losses", [["feature"], ["attention"], ["relation"], ["response", "feature", "flow"]])
def test_every_loss_helps(losses):
    teacher = builders.BUILDERS["residual_cnn"]()
    options = Distillation(steps=60, schedule=FAST, losses=dict.fromkeys(losses, 1.0))
    done = distill(spoiled(teacher), teacher, data(teacher), options, seed=1)
    assert done.trained is not None
    first, *later = done.trained.history
    # The loss of relations jumps at single steps, at others on each processor.
    assert min(point.loss for point in later) < 0.5 * first.loss


def test_features_alone_teach_what_follows_the_last_of_them_too():
    teacher = builders.BUILDERS["residual_cnn"]()
    options = Distillation(steps=60, schedule=FAST, losses={"feature": 1.0})
    done = distill(spoiled(teacher), teacher, data(teacher), options)
    assert done.trained is not None
    assert done.trained.after < 0.7 * done.trained.before


def test_the_same_seed_gives_the_same_weights():
    teacher = builders.BUILDERS["residual_cnn"]()
    options = Distillation(steps=6, schedule=FAST)
    first, second, other = (
        to_bytes(distill(spoiled(teacher), teacher, data(teacher), options, seed=seed).model) for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_a_perfect_student_is_left_alone():
    teacher = builders.BUILDERS["gemm_mlp"]()
    done = distill(teacher.clone(), teacher, data(teacher), Distillation(steps=5, schedule=FAST))
    assert done.trained is not None
    assert not done.trained.improved
    assert to_bytes(done.model) == to_bytes(teacher)


def test_training_that_does_harm_is_not_kept():
    teacher = builders.BUILDERS["gemm_mlp"]()
    student = spoiled(teacher)
    harmful = Schedule(1, batch_size=16, lr=1e3, evaluations=5, patience=9, clip=1e9, warmup=0)
    done = distill(student, teacher, data(teacher), Distillation(steps=10, schedule=harmful))
    assert done.trained is not None
    assert done.trained.after <= done.trained.before
    assert to_bytes(done.model) == to_bytes(student)


def test_pruned_weights_stay_zero():
    teacher = builders.BUILDERS["residual_cnn"]()
    student = teacher.clone()
    zeros = {}
    for value, tensor in constants_of(student):
        array = np.array(tensor.numpy())
        if array.ndim == 4:
            array[np.random.default_rng(0).random(array.shape) < 0.4] = 0
            zeros[value.name] = array == 0
            value.const_value = ir.tensor(array)
    done = distill(student, teacher, data(teacher), Distillation(steps=30, schedule=FAST))
    assert done.trained is not None
    assert done.trained.improved
    for value, tensor in constants_of(done.model):
        if value.name in zeros:
            assert np.array_equal(tensor.numpy() == 0, zeros[value.name])


class Interrupted(Exception):
    pass


def test_a_resumed_training_ends_like_an_uninterrupted_one(tmp_path):
    teacher = builders.BUILDERS["residual_cnn"]()
    plain = Distillation(steps=20, schedule=FAST, losses={"response": 1.0, "feature": 1.0})
    whole = to_bytes(distill(spoiled(teacher), teacher, data(teacher), plain).model)

    def stop(done, _):
        if done == 13:
            raise Interrupted

    saved = Distillation(**{**vars(plain), "checkpoint": tmp_path / "state.pt"})
    with pytest.raises(Interrupted):
        distill(spoiled(teacher), teacher, data(teacher), saved, progress=stop)
    seen = []
    resumed = distill(spoiled(teacher), teacher, data(teacher), saved, progress=lambda done, _: seen.append(done))
    assert seen[0] == 13  # the last score before the stop was after 12 steps
    assert to_bytes(resumed.model) == whole

    other = Distillation(**{**vars(saved), "steps": 21})
    with pytest.raises(FileError, match="another training"):
        distill(spoiled(teacher), teacher, data(teacher), other)
    (tmp_path / "state.pt").write_bytes(b"no checkpoint")
    with pytest.raises(FileError, match="cannot be read"):
        distill(spoiled(teacher), teacher, data(teacher), saved)


def test_labels_take_part_on_request():
    teacher = builders.BUILDERS["gemm_mlp"]()
    options = Distillation(steps=3, schedule=FAST, alpha=0.5)
    count = 96
    fits = np.arange(count) % 2
    assert distill(spoiled(teacher), teacher, data(teacher, count, fits), options).trained is not None
    with pytest.raises(DataError, match="ONX206"):
        distill(spoiled(teacher), teacher, data(teacher, count, fits + 1000), options)


def test_models_that_cannot_be_compared_are_refused():
    one, other = builders.BUILDERS["gemm_mlp"](), builders.BUILDERS["residual_cnn"]()
    other.graph.inputs[0].name = "something_else"
    with pytest.raises(ModelError, match="ONX308"):
        distill(other, one, data(one), Distillation(steps=1, schedule=FAST))


def test_losses_without_inner_values_to_compare_are_left_out():
    teacher = builders.BUILDERS["gemm_mlp"]()
    student = spoiled(teacher)
    for node in student.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.name = f"other_{value.name}"
    both = Distillation(steps=20, schedule=FAST, losses={"feature": 1.0, "response": 1.0})
    done = distill(student, teacher, data(teacher), both)
    assert done.left_out == ("feature",)
    assert done.trained is not None
    with pytest.raises(ModelError, match="nothing to compare for losses=feature,flow"):
        distill(student, teacher, data(teacher), Distillation(steps=20, losses={"feature": 1.0, "flow": 1.0}))


def test_too_few_samples_to_judge_by():
    teacher = builders.BUILDERS["gemm_mlp"]()
    assert distill(teacher, teacher, data(teacher, 2), Distillation(steps=1)).trained is None
    parts = split_held_out(data(teacher, 40), 0.1, 0)
    assert parts is not None
    learned, judged = parts
    assert (len(learned), len(judged)) == (32, 8)
    assert not set(learned.indices) & set(judged.indices)


def test_every_epoch_sees_every_sample_once_and_processes_share_batches():
    samples = data(builders.BUILDERS["gemm_mlp"](), 30)
    batches = Batches(samples, 8, seed=3)
    seen = np.concatenate([batches._positions(step) for step in range(15)])
    assert all(sorted(seen[start : start + 30]) == list(range(30)) for start in range(0, 120, 30))
    whole = next(iter(batches.at(4))).feeds
    parts = [next(iter(Batches(samples, 8, seed=3, rank=r, world=2).at(4))).feeds for r in (0, 1)]
    (name,) = whole
    together = np.empty_like(whole[name])
    together[0::2], together[1::2] = (p[name] for p in parts)
    assert np.array_equal(together, whole[name])


def test_the_rate_rises_and_falls():
    schedule = Schedule(100, lr=1.0, warmup=0.1)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] < 1e-3
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert schedule.evaluated(100)
    assert sum(schedule.evaluated(step) for step in range(1, 101)) == schedule.evaluations


def _worker(rank: int, world: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    teacher = builders.BUILDERS["residual_cnn"]()
    done = distill(spoiled(teacher), teacher, data(teacher), Distillation(steps=5, schedule=FAST))
    if rank == 0:
        Path(out).write_bytes(to_bytes(done.model))
    torch.distributed.destroy_process_group()


def test_two_processes_learn_what_one_does(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "two.onnx"
    multiprocessing.spawn(_worker, (2, port, str(out)), nprocs=2)
    teacher = builders.BUILDERS["residual_cnn"]()
    one = distill(spoiled(teacher), teacher, data(teacher), Distillation(steps=5, schedule=FAST)).model
    two = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(out)).graph.initializer}
    for value, tensor in constants_of(one):
        if value.name in two and tensor.numpy().dtype == np.float32:
            np.testing.assert_allclose(two[value.name], tensor.numpy(), rtol=1e-4, atol=1e-6)
    assert not trainer.distributed()
