"""Requests to end, in processes of their own that do nothing else."""

import os
import signal
import subprocess
import sys
import time

import pytest

from switchablecompat.comparison.claims import is_alive
from switchablecompat.engine.interruption import Interruption, Terminated

# Three processes below one; the last line of each is its number.
LAUNCH = """
import multiprocessing, os, signal, sys, time
from switchablecompat.engine.interruption import end_with, passed_on
fork = multiprocessing.get_context("fork")

def work(parent):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as a spawned process has it
    if parent:
        end_with(parent)
    os.write(1, f"{os.getpid()}\\n".encode())  # in one piece, beside the others
    time.sleep(60)

with passed_on(several=True):
    workers = [fork.Process(target=work, args=(int(sys.argv[1]) and os.getpid(),)) for _ in range(2)]
    for worker in workers:
        worker.start()
    os.write(1, b"started\\n")  # a signal in the middle of a start is another matter
    for worker in workers:
        worker.join()
    os._exit(7)
"""


def launch(ends_with_parent=False):
    """A launch of two processes, and their numbers."""
    command = [sys.executable, "-c", LAUNCH, str(int(ends_with_parent))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = [process.stdout.readline().strip() for _ in range(3)]
    return process, [int(line) for line in lines if line != "started"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGINT, -signal.SIGINT)])
def test_a_launch_ends_its_processes_and_waits_for_them(number, code):
    """Sent to the launch alone; after SIGTERM it goes on with what its processes have left, Ctrl-C ends it."""
    process, workers = launch()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert not any(map(is_alive, workers))


def test_processes_end_with_their_parent():
    process, workers = launch(ends_with_parent=True)
    assert all(map(is_alive, workers))
    process.kill()
    process.communicate(timeout=30)
    end = time.monotonic() + 30
    while any(map(is_alive, workers)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(is_alive, workers))


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
