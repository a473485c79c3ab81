"""Requests to end, in processes of their own that do nothing else."""

import multiprocessing
import os
import signal
import time

import pytest

from switchablecompat.comparison.claims import is_alive
from switchablecompat.engine.interruption import Interruption, Terminated, end_with, passed_on

FORK = multiprocessing.get_context("fork")


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def _work(pids):
    pids.put(os.getpid())
    time.sleep(60)


def _launch(pids, exit_code):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with passed_on(several=True):
        workers = [FORK.Process(target=_work, args=(pids,)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        os._exit(exit_code)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGINT, 1)])
def test_a_launch_ends_its_processes_and_waits_for_them(number, code):
    """Sent to the launch alone; after SIGTERM it goes on with what its processes have left, Ctrl-C ends it."""
    pids = FORK.Queue()
    launch = FORK.Process(target=_launch, args=(pids, 7))
    launch.start()
    workers = [pids.get(timeout=20) for _ in range(2)]
    os.kill(launch.pid, number)
    launch.join(20)
    assert launch.exitcode == code
    assert not any(map(is_alive, workers))


def _end_with_parent(pids):
    def work(parent):
        end_with(parent)
        pids.put(os.getpid())
        time.sleep(60)

    FORK.Process(target=work, args=(os.getpid(),)).start()
    time.sleep(60)


def test_a_process_ends_with_its_parent():
    pids = FORK.Queue()
    parent = FORK.Process(target=_end_with_parent, args=(pids,))
    parent.start()
    child = pids.get(timeout=20)
    assert is_alive(child)
    parent.kill()
    parent.join()
    wait_for(lambda: not is_alive(child))


def test_a_request_waits_for_a_block_without_anything_to_finish():
    interruption = Interruption()
    with interruption.watched():
        with interruption.at_once():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested
        with pytest.raises(Terminated), interruption.at_once():
            pytest.fail("the block is not entered")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    interruption = Interruption()
    with interruption.watched(), pytest.raises(Terminated), interruption.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
