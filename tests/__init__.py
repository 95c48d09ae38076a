"""The suite. What numpy and torch read while they are loaded is set here, before any of them is."""

import os

# Two workers on two cores leave one thread to each. Threads of OpenMP that wait for a core spin on another, which made
# a training ten times as dear. Processes that tests start inherit it.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
