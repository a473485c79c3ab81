"""What several tests build alike: configs, models with nothing left at its initial value, small networks."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from fastreid.modeling.meta_arch import build_model
from PIL import Image
from torch import nn

from switchablecompat.config import load_config
from switchablecompat.data.opening import open_dataset
from switchablecompat.modeling import SwitchableBaseline
from switchablecompat.modeling.calibration import calibrate_bn
from switchablecompat.modeling.checkpoint import RECORD_KEY
from switchablecompat.modeling.trained import run_record

TINY = "configs/quick/sfsc_tiny.yml"
R18 = "configs/quick/sfsc_tiny_R18.yml"
CLASSES = 7
CROSS_ENTROPY = {
    "MODEL.LOSSES.NAME": "('CompatibleLoss',)", "MODEL.LOSSES.COMPAT.KIND": "ce",
    "MODEL.SWITCHABLE.CLASSIFIER_GRAD": "all",
}  # fmt: skip
PLAIN = ("MODEL.LOSSES.NAME", "('CompatibleLoss',)", "MODEL.SWITCHABLE.CLASSIFIER_GRAD", "full")


def tiny_config(*opts: object, config_file: str = TINY):
    """A frozen config of the quick recipe, without agreement and certainty, with ``KEY, VALUE`` overrides."""
    plain = PLAIN if config_file == TINY else ()
    return load_config(config_file, [*plain, "MODEL.HEADS.NUM_CLASSES", str(CLASSES), *map(str, opts)])


def tiny_model(*opts: object, config_file: str = TINY) -> SwitchableBaseline:
    """A switchable model with random weights *and* random statistics, so that no zero or one hides a mistake."""
    model = build_model(tiny_config(*opts, config_file=config_file))
    randomise(model)
    return model


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Random affine parameters (small, or deep networks overflow) and statistics in every norm layer."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            for tensor in (module.weight, module.running_var):
                if tensor is not None:
                    tensor.uniform_(0.5, 1.5) if tensor is module.running_var else tensor.uniform_(0.1, 0.5)
            for tensor in (module.bias, module.running_mean):
                if tensor is not None:
                    tensor.normal_(0, 0.2)


def images(n: int = 4, height: int = 32, width: int = 16) -> torch.Tensor:
    """A batch as FastReID's loader gives it: float, 0-255."""
    return torch.randint(0, 256, (n, 3, height, width)).float()


def batch(n: int = 8) -> dict[str, torch.Tensor]:
    """A training batch of pairs of the same identity."""
    return {"images": images(n), "targets": torch.arange(n) // 2 % CLASSES, "camids": torch.arange(n) % 2}


def reference_files(folder: Path, *opts: object, config_file: str = TINY) -> tuple[SwitchableBaseline, list[str]]:
    """A model, saved as a run leaves it below ``folder``, and the overrides that make it another one's reference."""
    cfg = tiny_config(*opts, config_file=config_file)
    model = tiny_model(*opts, config_file=config_file)
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    files = {"CONFIG_FILE": folder / "config.yaml", "WEIGHTS": folder / "model_final.pth"}
    return model, [str(x) for name, path in files.items() for x in (f"MODEL.REFERENCE.{name}", path)]


def write_pictures(folder: Path, data: Path) -> list[Path]:
    """Nine drawn people below ``folder`` as pictures of several sizes and formats; their data set goes to ``data``."""
    _, splits = open_dataset("SyntheticReIDTiny", str(data), "")
    by_person = {item[1]: item[0] for item in (*splits["train"], *splits["gallery"])}
    paths = []
    for number, source in enumerate(list(by_person.values())[:9]):
        paths.append(folder / f"{number}.{('png', 'jpg', 'bmp')[number % 3]}")
        Image.open(source).resize((30 + 5 * number, 50 + 7 * number)).save(paths[-1])
    return paths


def calibrated_run(folder: Path, images: torch.Tensor, *opts: object, config_file: str = TINY) -> SwitchableBaseline:
    """A model with random weights that tells ``images`` apart at every width, saved as a run leaves it.

    With random statistics most channels are dead, and features hardly depend on the image.
    """
    cfg, model = tiny_config(*opts, config_file=config_file), tiny_model(*opts, config_file=config_file).eval()
    calibrate_bn(model, [images])
    for index in range(len(model.switch)):
        with torch.no_grad(), model.switch.use(index):
            features = torch.nn.functional.normalize(model(images))
        assert (features @ features.T).min() < 0.9
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict(), RECORD_KEY: run_record(cfg)}, folder / "model_final.pth")
    return model


def save_run(folder: Path, *opts: object) -> SwitchableBaseline:
    """A model with random weights, as a training run leaves it in its new ``folder``."""
    folder.mkdir()
    opts = (*opts, "OUTPUT_DIR", folder)
    model = tiny_model(*opts)
    (folder / "config.yaml").write_text(tiny_config(*opts).dump())
    torch.save({"model": model.state_dict(), RECORD_KEY: run_record(tiny_config(*opts))}, folder / "model_final.pth")
    return model


class Hostile:
    """Creates a file when it is unpickled by something that trusts it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def train_net(*arguments: object, data: Path) -> subprocess.CompletedProcess:
    """``tools/train_net.py`` in a process of its own, with its data sets below ``data``."""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "FASTREID_DATASETS": str(data), "OMP_NUM_THREADS": "1"}
    # More than a user sees; but FastReID's default_setup reads the config and never closes it.
    environment["PYTHONWARNINGS"] = "default,ignore::ResourceWarning"
    command = [sys.executable, str(root / "tools" / "train_net.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)


class Same:
    """A loader of one batch for ever."""

    def __init__(self, content):
        self.content = content

    def __iter__(self):
        while True:
            yield self.content


class Items(list):
    """Identities as FastReID's data set of as many images."""

    @property
    def img_items(self):
        return [(f"{number}.png", int(pid), 0) for number, pid in enumerate(self)]
