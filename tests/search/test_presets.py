"""What is protected by name or by strategy stays whole in every candidate that prunes."""

from typing import get_args

import pytest

from onnxopt.errors import UsageError
from onnxopt.options.search import SearchOptions, StrategyName
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.run.job import prepare
from onnxopt.search.candidates import first_candidates, pruned
from onnxopt.search.presets import STRATEGIES
from onnxopt.search.settings import Settings
from tests import builders


def job(**asked):
    return prepare(builders.BUILDERS["residual_cnn"](), "random", SearchOptions(limit=24, **asked)).settings


def test_a_strategy_protects_unless_protect_is_given() -> None:
    assert job(strategy="server").protect == ("first", "last", "embeddings")
    assert job(strategy="server", protect=("last",)).protect == ("last",)
    assert job(strategy="edge").protect == ()


def test_candidates_protect() -> None:
    def spec(**protect):
        passes = pruned(first_candidates()[1], 0.5, **protect).passes
        return next(p for p in passes if isinstance(p, PruneChannels))

    assert spec(protect=("first",)).protect == ("first",)
    assert spec().protect is None


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"ONX102.*frist.*first"):
        Settings(protect=("frist",))  # type: ignore[arg-type]


def test_every_strategy_that_can_be_named_is_there() -> None:
    assert set(STRATEGIES) == set(get_args(StrategyName))
