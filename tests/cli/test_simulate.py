"""`evaluate --simulate`: one file, its accuracy on several processors."""

import json


def test_accuracy_is_reported_for_every_processor(cli, mlp, tmp_path):
    small = tmp_path / "small.onnx"
    # 8-bit weights, which can saturate where there is no VNNI.
    made = cli("quantize", mlp, "-d", "digits:train", "-o", small, "--target", "x86-vnni", "-q")
    assert made.code == 0
    ended = cli("evaluate", small, "-d", "digits", "--limit", 60, "--simulate", "x86-avx2,arm64", "--format", "json")
    assert ended.code == 0
    here, (old, arm) = json.loads(ended.out), json.loads(ended.out)["simulated"]
    assert (old["target"], arm["target"]) == ("x86-avx2", "arm64-neon")
    assert here["n"] == old["n"] == arm["n"] == 60
    assert sum(old["saturating_pairs"].values()) > 0
    assert not arm["saturating_pairs"]
    assert abs(arm["value"] - here["value"]) < 0.05


def test_the_table_has_a_row_for_each(cli, mlp):
    ended = cli("evaluate", mlp, "-d", "digits", "--limit", 30, "--simulate", "x86-avx2")
    assert ended.code == 0
    assert "this machine" in ended.out
    assert "x86-avx2: 0 layers" in ended.out


def test_an_unknown_processor_is_refused(cli, mlp):
    ended = cli("evaluate", mlp, "-d", "digits", "--simulate", "x87")
    assert ended.code == 2
    assert "ONX102" in ended.err
