"""Which wheels travel, and what is done with them where there is no internet."""

import importlib.util
import re
import runpy
import subprocess
from pathlib import Path

import pytest
import setuptools

from gpu import wheels

ROOT = Path(__file__).parents[3]


def test_every_package_that_setup_py_asks_for_is_brought_along_or_has_to_be_there():
    text = (ROOT / "setup.py").read_text()
    block = text[text.index("install_requires=[") : text.index("extras_require")]
    asked = {name.lower() for name in re.findall(r'"([A-Za-z][A-Za-z0-9_-]*)[><=]', block)}
    modules = {"pillow": "PIL", "scikit-learn": "sklearn"}
    brought = {re.split(r"[><=]", requirement)[0] for requirement in wheels.WHEELS.values()}
    assert {name for name in asked if name not in brought and modules.get(name, name) not in wheels.NEEDED} == set()


def test_only_what_is_missing_is_installed_and_nothing_of_the_network_is_asked(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("yacs", "faiss", "scipy") else name)
    monkeypatch.setattr(
        subprocess, "run", lambda command, **kw: calls.append(command) or subprocess.CompletedProcess(command, 0)
    )
    assert wheels.install_missing(tmp_path / "wheels", tmp_path / "site") == ["scipy"]
    (command,) = calls
    assert {"--no-index", "--no-deps", "--target"} <= {*command}
    assert command[-2:] == [wheels.WHEELS["yacs"], wheels.WHEELS["faiss"]]


def test_nothing_is_installed_where_nothing_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    assert wheels.install_missing(tmp_path, tmp_path) == []


def versions(requirement):
    """Name and range of a requirement, without extras."""
    return re.fullmatch(r"([\w.-]+)(?:\[.*\])?(.*)", requirement).groups()


def test_versions_are_those_of_setup_py(monkeypatch):
    asked = {}
    monkeypatch.setattr(setuptools, "setup", asked.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    lists = [asked["install_requires"], *asked["extras_require"].values()]
    there = dict(versions(requirement) for requirements in lists for requirement in requirements)
    found = dict(versions(requirement) for requirement in wheels.WHEELS.values())
    assert {name: found[name] for name in found if name in there} == {n: there[n] for n in found if n in there}
    assert len(found.keys() & there.keys()) > 8
    assert all(found.values()), "each has a range"


@pytest.fixture
def pip(monkeypatch):
    """What pip leaves in its folder, by name, and how it ends."""
    done = {"code": 0, "files": {}}

    def download(command, **kwargs):
        for name, content in done["files"].items():
            (Path(command[command.index("--dest") + 1]) / name).write_bytes(content)
        return subprocess.CompletedProcess(command, done["code"])

    monkeypatch.setattr(subprocess, "run", download)
    return done


def test_too_large_a_collection_is_refused(monkeypatch, tmp_path, pip):
    pip["files"] = {"a.whl": b"x" * 100}
    monkeypatch.setattr(wheels, "LIMIT", 99)
    with pytest.raises(SystemExit, match="wheels must be at most"):
        wheels.collect(tmp_path / "wheels")
    monkeypatch.setattr(wheels, "LIMIT", 100)
    assert wheels.collect(tmp_path / "wheels") == 100


@pytest.mark.parametrize("fault", ["offline", "too large"])
def test_earlier_wheels_stay_until_the_new_ones_are_complete(monkeypatch, tmp_path, pip, fault):
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "a-1.whl").write_bytes(b"old")
    (folder / "note.txt").touch()
    pip |= {"code": fault == "offline", "files": {"a-2.whl": b"new!"}}
    monkeypatch.setattr(wheels, "LIMIT", 3 if fault == "too large" else 4)
    with pytest.raises(SystemExit):
        wheels.collect(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a-1.whl", "note.txt"]
    monkeypatch.setattr(wheels, "LIMIT", 4)
    pip["code"] = 0
    assert wheels.collect(folder) == 4
    assert sorted(path.name for path in folder.iterdir()) == ["a-2.whl", "note.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]
