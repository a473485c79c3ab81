"""Collect wheels for a machine without internet, and install there what it lacks. Its own torch stays."""

import argparse
import ast
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 40 * 2**20  # bytes of all wheels
SETUP = Path(__file__).parents[1] / "setup.py"
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?([<>=!~].+)")  # package, extras, range of versions


def ranges(setup: Path = SETUP) -> dict[str, str]:
    """The range of versions of each package that setup.py names; it is read, not run."""
    texts = [node.value for node in ast.walk(ast.parse(setup.read_text())) if isinstance(node, ast.Constant)]
    found = (REQUIREMENT.fullmatch(text) for text in texts if isinstance(text, str))
    return {match[1]: match[2] for match in found if match}


# Importable module: package whose wheel to collect, without dependencies (they are in this table or NEEDED).
# A package that setup.py names has its versions there.
PACKAGES = {
    "fastreid": "fastreid==1.4.0",
    "yacs": "yacs",
    "termcolor": "termcolor",
    "tabulate": "tabulate",
    "faiss": "faiss-cpu",
    "torchjd": "torchjd",
    "qpsolvers": "qpsolvers>=4.8,<5",
    "quadprog": "quadprog>=0.1.11,<1",
    "hypothesis": "hypothesis",
    "sortedcontainers": "sortedcontainers>=2.4,<3",
    "pytest": "pytest",
    "xdist": "pytest-xdist",
    "execnet": "execnet>=2.1,<3",
    "iniconfig": "iniconfig>=2",
    "pluggy": "pluggy>=1.5,<2",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe>=2",
    "tqdm": "tqdm",
    "yaml": "pyyaml>=6",
    "packaging": "packaging>=22",
}
_RANGES = ranges()
WHEELS = {module: package + _RANGES.get(package, "") for module, package in PACKAGES.items()}
# Modules that the machine itself must have, because their wheels are too large.
NEEDED = ("torch", "torchvision", "numpy", "PIL", "scipy", "sklearn", "matplotlib", "tensorboard")
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (28, 27, 24, 17, 12, 5)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]


def collect(folder: Path) -> int:
    """Download the wheels for Python 3.12 on Linux, x86_64; returns their size in bytes.

    Earlier wheels go when the new ones are complete: two versions of one package would stop the installation.

    Raises:
        SystemExit: A wheel is not available, or all together exceed :data:`LIMIT`. The earlier wheels stay.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    target = ["--python-version", "3.12", "--implementation", "cp", "--only-binary=:all:", "--no-deps", *platforms]
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as staging:
        command = [sys.executable, "-m", "pip", "download", "--quiet", *target, "--dest", staging, *WHEELS.values()]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit("error: pip could not download a wheel")
        fresh = sorted(Path(staging).glob("*.whl"))
        size = sum(path.stat().st_size for path in fresh)
        if size > LIMIT:
            raise SystemExit(f"error: wheels must be at most {LIMIT / 2**20:g} MiB together, found {size / 2**20:.1f}")
        for old in folder.glob("*.whl"):
            old.unlink()
        for path in fresh:
            path.replace(folder / path.name)
    return size


def install_missing(folder: Path, target: Path) -> list[str]:
    """Install modules that this Python lacks from ``folder`` into ``target``, offline; return those still missing."""
    missing = [name for name in (*WHEELS, *NEEDED) if importlib.util.find_spec(name) is None]
    wanted = [WHEELS[name] for name in missing if name in WHEELS]
    if not wanted:
        return missing
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--find-links", str(folder)]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), *wanted]
    if subprocess.run(command, check=False).returncode:
        return missing
    return [name for name in missing if name not in WHEELS]


def environment(root: Path, target: Path) -> dict[str, str]:
    """The environment in which the repository's package and the packages in ``target`` are importable."""
    paths = [root / "projects" / "SwitchableCompat", root / "tools", target]
    former = os.environ.get("PYTHONPATH")
    joined = os.pathsep.join([*map(str, paths), *([former] if former else [])])
    return {**os.environ, "PYTHONPATH": joined, "PYTHONUNBUFFERED": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def main() -> None:
    """Collect the wheels."""
    parser = argparse.ArgumentParser(prog="python -m gpu.wheels", description=collect.__doc__)
    parser.add_argument("--output", default="outputs/gpu_wheels", metavar="DIR", help="(default %(default)s)")
    folder = Path(parser.parse_args().output)
    size = collect(folder)
    print(f"{len(list(folder.glob('*.whl')))} wheels, {size / 2**20:.1f} MiB: {folder}")


if __name__ == "__main__":
    main()
