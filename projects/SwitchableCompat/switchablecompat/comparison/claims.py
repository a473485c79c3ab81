"""Claims decide which runner does a task, among several on one machine or on many that share a folder.

A claim is a file that only one runner can create. Its owner touches it regularly, and removes it when the task is done.
The claim of a killed owner is stale, and any runner that needs the task takes it over: on the same machine at once,
because its processes are gone; on another machine, or after a reboot, when the file has not been touched for some time.
Locks of the file system (``flock``) would be simpler, but not every network file system has them.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path

HEARTBEAT = 10.0  # seconds between two touches of a claim
STALE = 90.0  # seconds without a touch after which another machine's claim is stale


BOOT = Path("/proc/sys/kernel/random/boot_id")  # of Linux: another one after each start of the machine


def this_place() -> str:
    """The host, its process namespace and its boot, within which a process number means the same process.

    Containers of one host may not see each other's processes, and after a reboot other processes have the numbers.
    """
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = "pid"
    try:
        boot = BOOT.read_text(encoding="utf-8").strip()
    except OSError:
        return f"{socket.gethostname()} {space}"
    return f"{socket.gethostname()} {space} {boot}"


def is_alive(pid: int) -> bool:
    """Whether a process of this place exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process of another user
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state != "Z"


class Claims:
    """The claims of one scheduler, in a folder that all schedulers of the same tasks share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place, self._token = this_place(), secrets.token_hex(8)
        self._held: dict[str, list[int]] = {}
        self._touched = time.monotonic()

    def take(self, name: str) -> str:
        """Claim a task. Returns an empty string on success, else a description of the present owner."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            try:
                with self._path(name).open("x", encoding="utf-8") as file:
                    file.write(self._content([os.getpid()]))
            except FileExistsError:
                content, owner = self._read(name)
                if owner and not self._is_stale(name, owner):
                    return f"{owner['place'].split()[0]}, process {owner['pids'][0]}"
                self._remove_stale(name, content)
            else:
                self._held[name] = [os.getpid()]
                return ""
        return "another shell"

    def add_process(self, name: str, pid: int) -> None:
        """Record a process that works on a claim. While it exists, the claim is not stale at this place."""
        self._held[name].append(pid)
        temporary = self._folder / f".{name}.{self._token}"
        temporary.write_text(self._content(self._held[name]))
        os.replace(temporary, self._path(name))

    def release(self, name: str) -> None:
        """Remove a claim, unless another runner has taken it over."""
        del self._held[name]
        if self._is_mine(name):
            self._path(name).unlink(missing_ok=True)

    def beat(self) -> list[str]:
        """Touch all claims if it is time. Returns those that were taken over, for example while this process slept."""
        if time.monotonic() - self._touched < HEARTBEAT:
            return []
        self._touched = time.monotonic()
        lost = []
        for name in self._held:
            if self._is_mine(name):
                os.utime(self._path(name))
            else:
                lost.append(name)
        return lost

    def _is_mine(self, name: str) -> bool:
        return self._read(name)[1].get("token") == self._token

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _content(self, pids: Sequence[int]) -> str:
        return json.dumps({"place": self._place, "pids": list(pids), "token": self._token})

    def _read(self, name: str) -> tuple[str, dict]:
        """The text of a claim and its content; both are empty if it is gone or not written yet."""
        try:
            text = self._path(name).read_text(encoding="utf-8")
            return text, json.loads(text)
        except (OSError, ValueError):
            return "", {}

    def _is_stale(self, name: str, owner: dict) -> bool:
        gone = not any(map(is_alive, owner["pids"]))
        if owner["place"] == self._place:
            return gone
        # Earlier versions did not record the boot: the process may be alive, or another one with its number.
        earlier = owner["place"].split() == self._place.split()[:2]
        return (earlier and gone) or self._age(name) > STALE

    def _age(self, name: str) -> float:
        """Seconds since the last touch, by the file system's clock, because the clocks of two machines differ."""
        probe = self._folder / f".{self._token}.now"
        probe.touch()
        try:
            return probe.stat().st_mtime - self._path(name).stat().st_mtime
        except OSError:
            return 0.0

    def _remove_stale(self, name: str, content: str) -> None:
        """Remove a stale claim. If another runner has just replaced it with its own, put that one back."""
        if not content and self._age(name) < STALE:  # it is being written
            return
        aside = self._folder / f".{name}.{secrets.token_hex(6)}.stale"
        try:
            os.rename(self._path(name), aside)
        except OSError:  # another runner was faster
            return
        try:
            if aside.read_text(encoding="utf-8") != content:
                os.link(aside, self._path(name))
        except OSError:  # a third runner has claimed it: the owner notices at its next touch
            pass
        aside.unlink(missing_ok=True)
