"""Latency of models side by side: clock, rounds, estimate, result."""

from onnxopt.measure.latency.inputs import alternating, at_lengths, drawn_inputs
from onnxopt.measure.latency.measure import measure_latency, refuse_emulation
from onnxopt.measure.latency.noise import Noise, noise_of
from onnxopt.measure.latency.result import Latency, Progress
from onnxopt.measure.latency.rounds import Round, race
from onnxopt.measure.latency.watch import Watch, watch_of

__all__ = [
    "Latency",
    "Noise",
    "Progress",
    "Round",
    "Watch",
    "alternating",
    "at_lengths",
    "drawn_inputs",
    "measure_latency",
    "noise_of",
    "race",
    "refuse_emulation",
    "watch_of",
]
