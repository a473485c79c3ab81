"""Collect wheels for a machine without internet, and install there what it lacks. Its own torch stays."""

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

LIMIT = 40 * 2**20  # bytes of all wheels
WHEELS = {  # importable module: wheel to collect, without dependencies (they are in this table or NEEDED)
    "fastreid": "fastreid==1.4.0",
    "yacs": "yacs>=0.1.8,<0.2",
    "termcolor": "termcolor>=2,<4",
    "tabulate": "tabulate>=0.9,<1",
    "faiss": "faiss-cpu>=1.9,<2",
    "torchjd": "torchjd>=0.18,<1",
    "qpsolvers": "qpsolvers>=4.8,<5",
    "quadprog": "quadprog>=0.1.11,<1",
    "hypothesis": "hypothesis>=6.100,<7",
    "sortedcontainers": "sortedcontainers>=2.4,<3",
    "pytest": "pytest>=8,<10",
    "xdist": "pytest-xdist>=3.5,<4",
    "execnet": "execnet>=2.1,<3",
    "iniconfig": "iniconfig>=2",
    "pluggy": "pluggy>=1.5,<2",
    "jinja2": "jinja2>=3.1,<4",
    "markupsafe": "markupsafe>=2",
    "tqdm": "tqdm>=4.60,<5",
    "yaml": "pyyaml>=6",
    "packaging": "packaging>=22",
}
# Modules that the machine itself must have, because their wheels are too large.
NEEDED = ("torch", "torchvision", "numpy", "PIL", "scipy", "sklearn", "matplotlib", "tensorboard")
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (28, 27, 24, 17, 12, 5)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]


def collect(folder: Path) -> int:
    """Download the wheels for Python 3.12 on Linux, x86_64; returns their size in bytes.

    Raises:
        SystemExit: A wheel is not available, or all together exceed :data:`LIMIT`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):  # two versions of one package would stop the installation
        old.unlink()
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    target = ["--python-version", "3.12", "--implementation", "cp", "--only-binary=:all:", "--no-deps", *platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *target, "--dest", str(folder), *WHEELS.values()]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit("error: pip could not download a wheel")
    size = sum(path.stat().st_size for path in folder.glob("*.whl"))
    if size > LIMIT:
        raise SystemExit(f"error: wheels must be at most {LIMIT / 2**20:g} MiB together, found {size / 2**20:.1f}")
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
