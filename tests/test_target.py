"""Targets, and which one a processor is."""

import pytest

from onnxopt import target as isa
from onnxopt.errors import UsageError
from onnxopt.target import TARGETS, detect, features_of_sysctl, target_of


@pytest.mark.parametrize("name", TARGETS)
def test_every_target(name: str) -> None:
    target = target_of(name)
    assert target.name == name
    assert {target.activation_type, target.weight_type} <= {"int8", "uint8"}
    # Only x86 without VNNI saturates.
    assert target.reduce_range == (name in ("x86-avx2", "x86-avx512"))
    # AVX2 registers hold 8 float32 numbers, those of AVX-512 hold 16.
    assert target.register_floats == (16 if name in ("x86-avx512", "x86-vnni", "x86-amx") else 8)


@pytest.mark.parametrize(
    ("names", "floats"), [("x86-vnni,x86-amx", 16), ("x86-avx2,x86-avx512", 16), ("x86-avx2,arm64", 8)]
)
def test_several_targets_have_the_blocks_of_the_widest(names: str, floats: int) -> None:
    assert target_of(names).register_floats == floats


def test_auto_is_this_machine() -> None:
    assert target_of("auto") == detect()
    assert detect() in TARGETS.values()


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(UsageError, match=r"ONX102: .*'x86-vnni'"):
        target_of("x86-vni")


@pytest.mark.parametrize(
    ("machine", "features", "name"),
    [
        ("x86_64", {"avx2"}, "x86-avx2"),
        ("amd64", {"avx2", "avx512bw"}, "x86-avx512"),
        ("x86_64", {"avx2", "avx_vnni"}, "x86-vnni"),
        ("x86_64", {"avx512bw", "avx512_vnni"}, "x86-vnni"),
        ("x86_64", {"avx512_vnni", "amx_int8"}, "x86-amx"),
        ("aarch64", {"asimd"}, "arm64-neon"),
        ("aarch64", {"asimd", "asimddp"}, "arm64-dotprod"),
        ("arm64", {"asimddp", "i8mm"}, "arm64-i8mm"),
    ],
)
def test_features_of_processors(machine: str, features: set[str], name: str) -> None:
    assert isa.target_with(machine, frozenset(features)).name == name


def test_features_of_a_mac() -> None:
    arm = "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\nhw.memsize: 17179869184\n"
    assert features_of_sysctl(arm) == {"asimddp"}
    intel = "machdep.cpu.features: FPU SSE4.2 AVX1.0\nmachdep.cpu.leaf7_features: AVX2 AVX512VNNI\n"
    assert features_of_sysctl(intel) >= {"avx2", "avx512vnni"}
    assert features_of_sysctl("") == frozenset()


def test_several_targets_are_one_that_is_safe_on_all() -> None:
    both = target_of("x86-avx2, arm64")
    assert (both.name, both.activation_type, both.weight_type) == ("x86-avx2,arm64-neon", "uint8", "int8")
    assert both.reduce_range
    assert not target_of("x86-vnni,arm64-i8mm").reduce_range
    assert target_of("arm64-neon,arm64-i8mm").activation_type == "int8"
    assert target_of("x86") == TARGETS["x86-avx2"]


def test_one_unknown_of_several_targets_is_reported() -> None:
    with pytest.raises(UsageError, match="x86-avx3"):
        target_of("x86-vnni,x86-avx3")
