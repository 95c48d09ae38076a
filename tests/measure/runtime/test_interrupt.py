import os
import signal
import threading
import time

import numpy as np
import pytest
from measure_models import linear, slow_model

from onnxopt.measure.runtime import interrupt
from onnxopt.measure.runtime.interrupt import TimeOver, cut_when, interruptible
from onnxopt.measure.runtime.session import Runtime, Session


def test_it_returns_and_raises_what_the_function_does():
    assert interruptible(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)


def test_nested_calls_stay_in_one_thread():
    outer, inner = interruptible(
        lambda: (threading.current_thread().name, interruptible(lambda: threading.current_thread().name))
    )
    assert outer == inner != threading.main_thread().name


def test_outside_the_main_thread_it_only_calls():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(interruptible(threading.current_thread)))
    thread.start()
    thread.join()
    assert seen == [thread]


@pytest.fixture
def ctrl_c():
    """Let the signal arrive: a shell that starts tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_long_native_run(ctrl_c):
    session = Session(slow_model(300), Runtime())
    feeds = {"v0": np.zeros((256, 1024), np.float32)}
    started, ended = threading.Event(), threading.Event()

    def work():
        started.set()
        try:
            for _ in range(100):
                session.run(feeds)
        finally:
            ended.set()

    def press():
        started.wait()
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            interruptible(work)
        # Not a timed test: a hundred runs take minutes, and the worker has ended before the exception arrived.
        assert ended.is_set()
    finally:
        presser.join()


def test_after_ctrl_c_nothing_new_starts():
    options = interrupt.onnxruntime.RunOptions()
    options.terminate = True
    token = interrupt._RUN_OPTIONS.set(options)
    try:
        with pytest.raises(KeyboardInterrupt):
            Session(linear(np.eye(2)), Runtime())
    finally:
        interrupt._RUN_OPTIONS.reset(token)


@pytest.mark.parametrize("call", [interruptible, lambda function: function()])
def test_the_end_of_the_time_ends_a_long_native_run(call):
    session = Session(slow_model(300), Runtime())
    feeds = {"v0": np.zeros((256, 1024), np.float32)}
    runs = []

    def work():
        while len(runs) < 100:
            runs.append(None)
            # As a run for timing does: nothing in it looks at the time.
            session.bound(feeds)()

    over = threading.Event()
    threading.Timer(0.3, over.set).start()
    with pytest.raises(TimeOver), cut_when(over.is_set):
        call(work)
    assert len(runs) < 100
    with pytest.raises(TimeOver), cut_when(over.is_set):
        call(lambda: session.run(feeds))


def test_the_end_of_the_outer_time_ends_a_run_inside_an_inner_limit():
    session = Session(slow_model(300), Runtime())
    feeds = {"v0": np.zeros((256, 1024), np.float32)}
    runs = []

    def work():
        with cut_when(lambda: False):
            while len(runs) < 100:
                runs.append(None)
                session.bound(feeds)()

    over = threading.Event()
    threading.Timer(0.3, over.set).start()
    with pytest.raises(TimeOver), cut_when(over.is_set):
        work()
    assert len(runs) < 100


def test_an_error_before_the_end_of_the_time_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), cut_when(lambda: False):
        interruptible(lambda: 1 // 0)
