"""What tests of several tools share: running a script in this process, and a run that has been evaluated."""

import logging
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from builders import calibrated_run, save_run, tiny_config, write_pictures
from switchablecompat.deploy.images import read_images
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.fastreid_shims.loading import use_cpu_loader

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(autouse=True)
def _log_of_this_test():
    """FastReID's handlers hold on to the output of the test that they were made in."""
    yield
    logging.getLogger("fastreid").handlers.clear()


@pytest.fixture
def run_tool(monkeypatch, capsys):
    """Run a script of tools/ in this process; returns exit code, output and errors."""
    monkeypatch.syspath_prepend(TOOLS)  # as in a process of its own

    def run(name, *arguments):
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(TOOLS / name), run_name="__main__")
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


@pytest.fixture
def refused(run_tool):
    """Run a script on bad input, which must end in one line and exit code 2; returns the line."""

    def run(name, arguments):
        code, _, err = run_tool(name, *arguments)
        assert code == 2, err[-2000:]
        errors = [line for line in err.splitlines() if "error: " in line]
        assert len(errors) == 1, err[-2000:]
        assert errors[0].startswith("error: ")
        assert "Traceback" not in err
        return errors[0]

    return run


@pytest.fixture(scope="module")
def evaluated_run(tmp_path_factory):
    """A switchable model with random weights, as a training run leaves it, with the grid that the trainer writes."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "joint"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tmp_path_factory.mktemp("datasets")))
        use_cpu_loader(True)
        widths = ("MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]")
        model = save_run(folder, *widths)
        SwitchableTrainer.test(tiny_config(*widths, "OUTPUT_DIR", folder), model)
        yield folder
        use_cpu_loader(None)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A folder with pictures (``my_images``) and the data set that they are of (``datasets``)."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "my_images").mkdir()
    write_pictures(folder / "my_images", folder / "datasets")
    return folder


@pytest.fixture(scope="module")
def deployable(drawn, tmp_path_factory, request):
    """A user's folder with pictures, data set and a ``run`` of the module's ``WIDTHS``; and the model of the run."""
    torch.manual_seed(0)
    folder = shutil.copytree(drawn, tmp_path_factory.mktemp("work") / "user")
    images = read_images(sorted((folder / "my_images").iterdir()), {"size": [64, 32]})
    widths = getattr(request.module, "WIDTHS", "[0.25, 1.0]")
    return folder, calibrated_run(folder / "run", images, "MODEL.SWITCHABLE.WIDTHS", widths)
