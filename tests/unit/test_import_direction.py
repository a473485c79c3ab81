"""Folders are the pipeline, and imports point one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "projects" / "SwitchableCompat" / "switchablecompat"
# Each may import itself and what stands before it.
ORDER = ["errors", "widths", "files", "choices", "settings", "fastreid_shims", "layers", "config_unread",
         "config_rules", "own_losses", "config_check", "config", "provenance", "losses", "modeling", "aggregation",
         "data", "evaluation", "family", "engine", "comparison", "deploy", "cli"]  # fmt: skip
IN_DEPLOY = ["packages", "images", "image_list", "card", "encoder", "files", "features", "gallery", "profiles"]
FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]
DEPLOY = PACKAGE / "deploy"
IN_ITS_ORDER = [p for p in FILES if DEPLOY in p.parents and p != DEPLOY / "__init__.py"]


def part_of(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imported_modules(path):
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
        yield from (name[1:] for name in names if name[0] == "switchablecompat" and len(name) > 1)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    part = part_of(path)
    for other, *_ in imported_modules(path):
        if other in ORDER:
            assert ORDER.index(other) <= ORDER.index(part), f"{path.name} must not import {other}"


@pytest.mark.parametrize("path", IN_ITS_ORDER, ids=lambda p: str(p.relative_to(DEPLOY)))
def test_deploy_goes_from_files_to_galleries(path):
    part = path.relative_to(DEPLOY).parts[0].removesuffix(".py")
    for other in (name[1] for name in imported_modules(path) if name[0] == "deploy" and len(name) > 1):
        assert IN_DEPLOY.index(other) <= IN_DEPLOY.index(part), f"{path.name} must not import {other}"


def test_every_part_is_in_the_order():
    assert {part_of(p) for p in FILES} == set(ORDER)
    assert {p.relative_to(DEPLOY).parts[0].removesuffix(".py") for p in IN_ITS_ORDER} == set(IN_DEPLOY)
