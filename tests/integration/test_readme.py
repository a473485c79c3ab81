"""The README tells the truth: its commands exist and their configs load, its Python runs, its tables are their JSON."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from builders import tiny_model
from switchablecompat.config import load_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands():
    for page in PAGES:
        text = "\n".join(blocks(page, "bash"))
        text += "\n" + "\n".join(re.findall(r"`(python tools/[^`]+)`", page.read_text()))
        for line in text.splitlines():
            if line.split("#")[0].strip():
                yield f"{page.name}: {line.split('#')[0].strip()}"


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_exist_and_their_configs_load(command):
    page, _, line = command.partition(": ")
    words = shlex.split(line)
    assert words[0] in ("make", "pip", "python", "export", ".venv/bin/python", ".venv/bin/ruff"), page
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if words[0] == "python":
        assert (ROOT / words[1]).is_file()
        if "--config-file" in words:
            at = words.index("--config-file")
            rest = [w for w in words[at + 2 :] if not w.startswith("--")]
            load_config(str(ROOT / words[at + 1]), rest if words[1] == "tools/train_net.py" else [])


def test_tables_are_their_json():
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "update_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_python_example_runs(tmp_path, monkeypatch):
    (code,) = blocks(ROOT / "README.md", "python")
    monkeypatch.chdir(ROOT)
    weights = tmp_path / "model_final.pth"
    torch.save({"model": tiny_model().state_dict()}, weights)
    code = code.replace("outputs/demo/model_final.pth", str(weights))
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    sizes = [sum(p.numel() for p in names[name].parameters()) for name in ("camera", "cloud")]
    assert sizes[0] < sizes[1] / 4


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_demo_grid_is_of_the_demo():
    content = json.loads((ROOT / "results" / "demo" / "grid.json").read_text())
    cfg = load_config(str(ROOT / "configs" / "Synthetic" / "sfsc_demo.yml"))
    assert content["seed"] == cfg.SEED
    assert content["widths"] == cfg.MODEL.SWITCHABLE.WIDTHS
    assert content["dataset"] in cfg.DATASETS.TESTS
