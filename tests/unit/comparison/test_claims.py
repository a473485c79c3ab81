"""Claims: one owner at a time, whatever becomes of the owner."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from switchablecompat.comparison import claims
from switchablecompat.comparison.claims import Claims, is_alive, this_place

OWNER = """
import subprocess, sys, time
from pathlib import Path
from switchablecompat.comparison.claims import Claims
claims = Claims(Path(sys.argv[1]))
assert claims.take("task") == ""
if len(sys.argv) > 2:
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.DEVNULL)
    claims.add_process("task", worker.pid)
    print(worker.pid)
print("ready", flush=True)
time.sleep(60)
"""


def killed_owner(folder, *options):
    """A process that has claimed ``task`` and was killed; returns what it printed."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder), *options], stdout=subprocess.PIPE, text=True)
    lines = []
    while (line := owner.stdout.readline().strip()) != "ready":
        assert owner.poll() is None
        lines.append(line)
    assert "process" in Claims(folder).take("task"), "it is alive"
    owner.kill()
    owner.communicate()
    return lines


def leave(folder, place, *, age, pid=None):
    """A claim as another scheduler left it, touched ``age`` seconds ago."""
    folder.mkdir(exist_ok=True)
    path = folder / "task.json"
    path.write_text(json.dumps({"place": place, "pids": [pid or os.getpid()], "token": "other"}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_one_at_a_time(tmp_path):
    one, other = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    assert one.take("task") == ""
    assert other.take("task") == f"{this_place().split()[0]}, process {os.getpid()}"
    assert other.take("another") == ""
    one.release("task")
    assert other.take("task") == ""
    for name in ("task", "another"):
        other.release(name)
    assert not list((tmp_path / "claims").glob("*.json"))


def test_a_killed_owner_holds_nothing_but_its_process_at_work_does(tmp_path):
    killed_owner(tmp_path)
    mine = Claims(tmp_path)
    assert mine.take("task") == ""
    mine.release("task")

    (worker,) = killed_owner(tmp_path, "with a worker")
    assert "process" in mine.take("task"), "two trainings in one folder"
    os.kill(int(worker), 9)
    end = time.monotonic() + 10
    while is_alive(int(worker)) and time.monotonic() < end:
        time.sleep(0.02)
    assert mine.take("task") == ""


@pytest.mark.parametrize(("age", "owner"), [(5, "elsewhere, process 1"), (500, "")])
def test_another_machine_is_known_by_its_touches_alone(tmp_path, age, owner):
    leave(tmp_path, "elsewhere pid:[1]", age=age, pid=1)
    assert Claims(tmp_path).take("task") == owner


def test_a_process_of_this_machine_that_sleeps_keeps_its_claim(tmp_path):
    leave(tmp_path, this_place(), age=500)
    assert f"process {os.getpid()}" in Claims(tmp_path).take("task")


def test_a_container_with_its_own_process_numbers_is_another_machine(tmp_path):
    """Its process 1 is not ours; nor does a number that we do not have mean that it is gone."""
    leave(tmp_path, f"{this_place().split()[0]} pid:[1]", age=5, pid=2**22 - 1)
    assert Claims(tmp_path).take("task") != ""


def test_after_a_reboot_an_owner_is_gone_although_its_number_is_taken_again(tmp_path, monkeypatch):
    """Host and namespace are the same, and this process has the number that the owner had."""
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(claims, "BOOT", boot, raising=False)
    boot.write_text("2f4c9a1e-first\n")
    assert Claims(tmp_path / "claims").take("task") == ""
    assert "process" in Claims(tmp_path / "claims").take("task")
    boot.write_text("77d0b3c5-second\n")
    assert "process" in Claims(tmp_path / "claims").take("task"), "it may be another machine of this name"
    os.utime(tmp_path / "claims" / "task.json", (time.time() - 500,) * 2)
    assert Claims(tmp_path / "claims").take("task") == ""


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").exists(), reason="needs Linux")
def test_a_place_has_this_machines_boot():
    host, space, boot = this_place().split()
    assert host == socket.gethostname()
    assert space == os.readlink("/proc/self/ns/pid")
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize(("alive", "age", "taken"), [(True, 5, False), (False, 5, True), (True, 500, True)])
def test_a_claim_of_an_earlier_version_is_read_too(tmp_path, alive, age, taken):
    """It has no boot: a gone process frees it at once, and a number that is taken again does not block it for ever."""
    leave(
        tmp_path,
        f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}",
        age=age,
        pid=os.getpid() if alive else 2**22 - 1,
    )
    assert (Claims(tmp_path).take("task") == "") is taken


def test_a_claim_that_is_being_written_is_left_alone(tmp_path):
    path = tmp_path / "task.json"
    path.touch()
    assert Claims(tmp_path).take("task") == "another shell"
    os.utime(path, (time.time() - 500,) * 2)  # nobody will
    assert Claims(tmp_path).take("task") == ""


def test_an_owner_touches_its_claim_and_notices_that_it_was_taken_over(tmp_path, monkeypatch):
    mine = Claims(tmp_path)
    mine.take("task")
    path = tmp_path / "task.json"
    os.utime(path, (0, 0))
    assert mine.beat() == []
    assert path.stat().st_mtime == 0, "not at every look"
    monkeypatch.setattr(claims, "HEARTBEAT", 0.0)
    assert mine.beat() == []
    assert path.stat().st_mtime > time.time() - 60
    before = leave(tmp_path, "elsewhere pid:[1]", age=0).read_text()
    assert mine.beat() == ["task"]
    mine.release("task")
    assert path.read_text() == before, "the new owner's"


def _race(folder, barrier, won):
    mine = Claims(folder)
    for number in range(40):
        barrier.wait()
        if mine.take(f"task{number}") == "":
            won.put(number)


def test_many_that_ask_at_once_for_a_stale_claim_get_it_once(tmp_path):
    for number in range(40):
        leave(tmp_path, "elsewhere pid:[1]", age=500).rename(tmp_path / f"task{number}.json")
    fork = multiprocessing.get_context("fork")
    barrier, won = fork.Barrier(4), fork.Queue()
    racers = [fork.Process(target=_race, args=(tmp_path, barrier, won)) for _ in range(4)]
    for racer in racers:
        racer.start()
    taken = sorted(won.get(timeout=60) for _ in range(40))
    for racer in racers:
        racer.join()
    assert taken == list(range(40))
    assert won.empty()
