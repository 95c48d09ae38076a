"""The options of a search are one set of fields, whoever gives them."""

import json
import tomllib
from dataclasses import fields

import pytest

import onnxopt
from onnxopt.errors import FileError, UsageError
from onnxopt.options.declared import declared_options
from onnxopt.options.keywords import with_named
from onnxopt.options.search import Goal, SearchOptions
from onnxopt.record.options import KeptOptions
from onnxopt.record.run import SettingsRecord
from onnxopt.run.job import settings_of
from onnxopt.samples import ReadOptions

GIVEN = {
    "metric": ("top5", "top5"),
    "output": ("logits", "logits"),
    "threshold": ("0.25", 0.25),
    "max-drop": ("2pp", "2pp"),
    "goal": ("size", Goal.SIZE),
    "confidence": ("0.9", 0.9),
    "require": ("proven", "proven"),
    "batch-size": ("4", 4),
    "sequence": ("128:0.3,1:0.7", "128:0.3,1:0.7"),
    "latency-seconds": ("0.5", 0.5),
    "hot": (None, True),
    "prune": (None, True),
    "train": (None, True),
    "strategy": ("size", "size"),
    "protect": ("first,last", ("first", "last")),
    "target-latency": ("10ms", "10ms"),
    "target-size": ("0.5x", "0.5x"),
    "time-limit": ("60", 60.0),
    "trial-timeout": ("7", 7.0),
    "memory-limit": ("2GB", "2GB"),
    "device": ("ssh://me@board", "ssh://me@board"),
    "cluster": ("tcp://h:1", "tcp://h:1"),
    "bench": ("board", "board"),
    "tls": (("ca", "cert", "key"), ("ca", "cert", "key")),
    "limit": ("80", 80),
    "target": ("x86-vnni", "x86-vnni"),
    "seed": ("3", 3),
}
ALL = SearchOptions(**{o.field: GIVEN[o.word][1] for o in declared_options(SearchOptions)})
NEVER_KEPT = {"device", "cluster", "bench", "tls"}


@pytest.fixture
def asked(monkeypatch):
    """Catch the arguments instead of searching."""
    seen = []

    def optimize(**arguments):
        seen.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxopt.run.optimize.optimize", optimize)
    return seen


def words():
    return [
        word
        for name, (text, _) in GIVEN.items()
        for word in ([f"--{name}"] if text is None else [f"--{name}", *([text] if isinstance(text, str) else text)])
    ]


def test_every_option_is_tried_here():
    assert {o.word for o in declared_options(SearchOptions)} == set(GIVEN)
    changed = [f.name for f in fields(SearchOptions) if getattr(ALL, f.name) == getattr(SearchOptions(), f.name)]
    assert not changed


def test_every_option_says_what_it_is_for():
    assert all(o.about.endswith((".", "]")) for o in declared_options(SearchOptions))


def test_the_command_line_gives_every_option(cli, mlp, asked):
    cli("optimize", mlp, "--data", "digits", *words())
    assert asked[0]["options"] == ALL


def test_without_options_there_are_the_defaults(cli, mlp, asked):
    cli("optimize", mlp, "--data", "digits")
    assert asked[0]["options"] == SearchOptions()


def test_a_configuration_file_gives_every_option_but_the_files_of_a_connection(cli, mlp, tmp_path, asked):
    def toml(name, value):
        if name == "protect":
            return json.dumps(list(value))
        return json.dumps(value.value if isinstance(value, Goal) else value)

    config = tmp_path / "c.toml"
    lines = [f"{name} = {toml(name, value)}" for name, (_, value) in GIVEN.items() if name != "tls"]
    config.write_text("[optimize]\n" + "\n".join(lines) + "\n")
    assert len(tomllib.loads(config.read_text())["optimize"]) == len(GIVEN) - 1
    cli("optimize", mlp, "--data", "digits", "--config", config, "--tls", "ca", "cert", "key")
    assert asked[0]["options"] == ALL


def test_keyword_arguments_are_the_fields():
    named = {f.name: getattr(ALL, f.name) for f in fields(SearchOptions)}
    assert with_named(SearchOptions(), named | {"goal": "size", "protect": ["first", "last"]}, onnxopt.optimize) == ALL
    one = with_named(SearchOptions(seed=3, hot=True), {"seed": 4, "confidence": None}, onnxopt.optimize)
    assert one == SearchOptions(seed=4, hot=True)


def test_a_record_gives_the_options_back():
    rest = {"model": "nowhere.onnx", "data": "digits", "read": ReadOptions(pad=7)}
    text = KeptOptions.of(ALL, rest).model_dump_json()
    kept = KeptOptions.model_validate_json(text)
    assert set(kept.again) == NEVER_KEPT
    given = kept.arguments("run", {"device": ALL.device, "cluster": ALL.cluster, "bench": ALL.bench, "tls": ALL.tls})
    assert given["options"] == ALL
    assert (given["model"], given["data"], given["read"]) == ("nowhere.onnx", "digits", ReadOptions(pad=7))


def test_a_record_of_an_earlier_version_is_read():
    """It wrote null for what was not given."""
    old = {"version": 1, "model": "m.onnx", "data": "digits", "confidence": None, "require": None, "latency_s": None}
    old |= {"goal": "size", "protect": [], "strategy": None, "batch_size": 2, "max_drop": 0.5, "seed": 1}
    given = KeptOptions.model_validate(old).arguments("run", {})
    assert given["options"] == SearchOptions(goal=Goal.SIZE, batch_size=2, max_drop=0.5, seed=1)


@pytest.mark.parametrize("name", sorted(NEVER_KEPT))
def test_an_address_in_a_record_is_refused(name):
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        KeptOptions.model_validate({name: "tcp://evil:1"})


def test_values_in_a_record_are_checked():
    with pytest.raises(FileError, match=r"ONX505.*confidence"):
        KeptOptions(confidence=7.0).arguments("run", {})


def test_what_is_not_in_the_settings_of_a_record_is_there_in_another_form():
    """The settings say what a measurement depends on: only with the same may a search be resumed."""
    elsewhere = {
        "metric": "metric",
        "output": "tasks",
        "threshold": "samples and scores",
        "strategy": "goal, prune, train, protect",
        "target_latency": "aim",
        "target_size": "aim",
        "memory_limit": "memory_limit_bytes",
        "limit": "fingerprints of the samples",
        "bench": "no setting of a measurement",
        "tls": "no setting of a measurement",
    }
    assert {f.name for f in fields(SearchOptions)} - set(SettingsRecord.model_fields) == set(elsewhere)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sead": 1}, r"ONX102: unknown option of optimize \[sead\]. Did you mean 'seed'"),
        ({"goal": "latencies"}, r"ONX102.*latencies.*Did you mean 'latency'"),
        ({"strategy": "moble"}, r"ONX102.*moble.*Did you mean 'mobile'"),
        ({"protect": ("frist",)}, r"ONX102.*frist.*Did you mean 'first'"),
        ({"require": "proved"}, r"ONX101.*proved.*Did you mean 'proven'"),
        ({"confidence": 1.0}, "ONX101.*between 0 and 1"),
        ({"batch_size": 0}, "ONX101.*batch size"),
        ({"batch_size": "many"}, r"ONX101: invalid option value \[batch_size\]: 'many'"),
        ({"time_limit_s": 0}, "ONX101.*time limit"),
        ({"trial_timeout_s": -1}, "ONX101.*time limit of a trial"),
        ({"latency_s": float("inf")}, "ONX101.*measurement time"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(given, said):
    with pytest.raises(UsageError, match=said):
        onnxopt.optimize("no such model", "no such data", **given)


def test_an_unknown_option_of_the_command_is_named(cli, mlp):
    ended = cli("optimize", mlp, "--data", "digits", "--confidense", "0.9")
    assert ended.err.startswith("ONX102: unknown option [--confidense]. Did you mean --confidence?")


def test_a_strategy_and_what_it_decides_contradict_each_other():
    with pytest.raises(UsageError, match="ONX109"):
        settings_of(SearchOptions(strategy="mobile", prune=True), None, None)
    assert settings_of(SearchOptions(strategy="server"), None, None).prune
