"""Every shim against its symptom in a clean interpreter, and FastReID as a wheel and as a checkout."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import switchablecompat
from switchablecompat import fastreid_shims

SHIMS = tuple(fastreid_shims.shims())
PACKAGE = Path(switchablecompat.__file__).parent
PROBE = Path(__file__).parent / "shims" / "shim_probe.py"

# What an unmodified FastReID says.
SYMPTOMS = {
    "collections.Mapping": "cannot import name 'Mapping' from 'collections'",
    "torch._six": "No module named 'torch._six'",
    "loader-on-cpu": "Found no NVIDIA driver",
    "loader-errors": "hangs",
    "unreadable-image": "image file is truncated",
    "random-affine": "unexpected keyword argument 'resample'",
    "numpy-in-checkpoint": "Unsupported global: GLOBAL numpy",
    "regnet-recipes": "No such file or directory: 'fastreid/modeling/backbones/regnet/regnety/RegNetY-200MF",
    "launch-on-cpu": "cuda is not available",
    "data-parallel-on-cpu": "device_ids and output_device arguments only work with",
    "byte-storage": "TypedStorage is deprecated",
    "amp-scaler": "GradScaler",
}

CHECKOUT_LINES = """TORCH_MAJOR = int(torch.__version__.split('.')[0])
TORCH_MINOR = int(torch.__version__.split('.')[1])

if TORCH_MAJOR == 1 and TORCH_MINOR < 8:
    from torch._six import string_classes
else:
    string_classes = str
"""


def clean_python(*arguments: str, first_on_path: Path | None = None) -> str:
    """Standard output of a fresh interpreter that sees the package, and no GPU."""
    path = [first_on_path, PACKAGE.parent, os.environ.get("PYTHONPATH")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in path if folder),
        "CUDA_VISIBLE_DEVICES": "",
    }
    run = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    output = clean_python(str(PROBE), str(PACKAGE), str(tmp_path_factory.mktemp("probe")))
    return json.loads(output.splitlines()[-1])


def test_every_shim_is_probed(observed: dict[str, dict]) -> None:
    names = [shim.name for shim in SHIMS]
    assert len(set(names)) == len(names)
    assert set(observed) == set(names) == set(SYMPTOMS)


@pytest.mark.parametrize("name", SYMPTOMS)
def test_symptom_exists_without_the_shim(observed: dict[str, dict], name: str) -> None:
    if not observed[name]["needed"]:
        pytest.skip("this stack does not have the symptom")
    assert SYMPTOMS[name] in observed[name]["before"]


@pytest.mark.parametrize("name", [shim.name for shim in SHIMS])
def test_symptom_is_gone_with_the_shim(observed: dict[str, dict], name: str) -> None:
    assert observed[name]["after"] == "ok"


@pytest.mark.parametrize("name", [shim.name for shim in SHIMS])
def test_what_works_is_not_patched(observed: dict[str, dict], name: str) -> None:
    entry = observed[name]
    assert entry["needed"] == (entry["before"] != "ok")
    assert entry["patched"] == entry["needed"]


@pytest.mark.parametrize("name", [shim.name for shim in SHIMS])
def test_a_shim_is_needed_once(observed: dict[str, dict], name: str) -> None:
    assert not observed[name]["needed_after"]
    assert not observed[name]["patched_again"]


def test_nothing_is_left_to_patch_here() -> None:
    assert [shim.name for shim in SHIMS if shim.needed()] == []


def test_apply_twice_changes_nothing() -> None:
    from fastreid.data import data_utils
    from fastreid.utils.checkpoint import Checkpointer

    before = data_utils.DataLoaderX, Checkpointer._load_file
    assert fastreid_shims.apply() is fastreid_shims.apply()
    assert before == (data_utils.DataLoaderX, Checkpointer._load_file)


def test_applied_names_are_shims_in_order() -> None:
    names = [shim.name for shim in SHIMS]
    positions = [names.index(name) for name in fastreid_shims.apply()]
    assert positions == sorted(positions)


def test_missing_fastreid_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastreid_shims, "_applied", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install --no-deps fastreid==1\.4\.0") as caught:
        fastreid_shims.apply()
    assert "\n" not in str(caught.value)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """FastReID as in its git repository, whose master differs from the wheel in one place."""
    installed = importlib.util.find_spec("fastreid").submodule_search_locations[0]
    shutil.copytree(installed, tmp_path / "fastreid", ignore=shutil.ignore_patterns("__pycache__"))
    build = tmp_path / "fastreid" / "data" / "build.py"
    source = build.read_text()
    build.write_text(source.replace("\nfrom torch._six import string_classes\n", f"\n{CHECKOUT_LINES}", 1))
    return tmp_path


IMPORT = (
    "import switchablecompat, fastreid.data, fastreid.engine, fastreid.evaluation.rank, fastreid.modeling; "
    "print(fastreid.__file__)"
)


def test_wheel_imports_without_a_warning() -> None:
    origin = importlib.util.find_spec("fastreid").origin
    strict = "-Werror::UserWarning", "-Werror::FutureWarning"
    assert clean_python(*strict, "-c", IMPORT).strip() == origin


def test_checkout_imports(checkout: Path) -> None:
    assert clean_python("-c", IMPORT, first_on_path=checkout).strip() == str(checkout / "fastreid" / "__init__.py")
