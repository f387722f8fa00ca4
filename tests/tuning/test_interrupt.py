import os
import signal
import threading

import pytest

from fisherbo.tuning.interrupt import check, deferred


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """As on a terminal; a process started in the background may have been told to ignore it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_ctrl_c_waits_for_a_check_and_the_handler_returns():
    before = signal.getsignal(signal.SIGINT)
    passed = []
    with pytest.raises(KeyboardInterrupt), deferred():
        press()
        passed.append("the write goes on")
        check()
        passed.append("never")
    assert passed == ["the write goes on"]
    assert signal.getsignal(signal.SIGINT) is before
    check()  # it is raised once


def test_it_is_raised_at_the_end_of_the_block_at_the_latest():
    with pytest.raises(KeyboardInterrupt), deferred():
        press()


def test_the_second_ctrl_c_acts_at_once():
    with pytest.raises(KeyboardInterrupt), deferred():
        press()
        press()
        pytest.fail("the second one was held back")


def test_other_threads_and_other_handlers_are_left_alone():
    def work():
        with deferred():
            handlers.append(signal.getsignal(signal.SIGINT))

    handlers = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)
