"""Which wheels travel, and what is done with them where there is no internet."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

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


def test_too_large_a_collection_is_refused(monkeypatch, tmp_path):
    def download(command, **kwargs):
        (tmp_path / "a.whl").write_bytes(b"x" * 100)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", download)
    monkeypatch.setattr(wheels, "LIMIT", 99)
    with pytest.raises(SystemExit, match="wheels must be at most"):
        wheels.collect(tmp_path)
    monkeypatch.setattr(wheels, "LIMIT", 100)
    assert wheels.collect(tmp_path) == 100
