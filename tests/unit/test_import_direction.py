"""Folders are the pipeline, and imports point one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "projects" / "SwitchableCompat" / "switchablecompat"
# Each may import itself and what stands before it.
ORDER = ["errors", "widths", "files", "choices", "fastreid_shims", "layers", "config_unread", "config_ranges",
         "own_losses", "config_check", "config", "settings", "provenance", "losses", "modeling", "aggregation", "data",
         "evaluation", "engine", "comparison", "deploy", "benchmarks", "cli"]  # fmt: skip
FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


def part_of(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imported_parts(path):
    package = ["switchablecompat", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = [*base, *(node.module or "").split(".")] if node.module else base
            names = [full] if len(full) > 1 else [[*full, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        yield from (name[1] for name in names if name[0] == "switchablecompat" and len(name) > 1)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    part = part_of(path)
    for other in imported_parts(path):
        if other in ORDER:
            assert ORDER.index(other) <= ORDER.index(part), f"{path.name} must not import {other}"


def test_every_part_is_in_the_order():
    assert {part_of(p) for p in FILES} == set(ORDER)
