"""Train SFSC, BCT-S and Unified with a ResNet-50 from the same pretrained start, on generated persons on the device.

First the full model alone is trained on persons that no other part uses. All three methods start from its backbone, as
they would from ImageNet's weights. Then each method trains for the same number of steps, and its grid is evaluated.
"""

from __future__ import annotations

import switchablecompat  # noqa: F401  (before anything of FastReID)

# isort: split
import gc
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage

from switchablecompat.aggregation import build_aggregation
from switchablecompat.config import load_config
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.engine.certainty import ClassCertainty
from switchablecompat.engine.step_plan import StepPlan
from switchablecompat.engine.train_loop import SwitchableTrainLoop
from switchablecompat.evaluation.grid import grid_from_cells
from switchablecompat.files import write_json
from switchablecompat.modeling import SwitchableBaseline
from switchablecompat.modeling.calibration import calibrate_bn
from switchablecompat.provenance import hardware, versions

from .options import Options, read_options
from .ranked import all_cells
from .resident import Pictures, ResidentLoader, load_persons

# Settings as in configs/suites/pretrained.yml.
OURS = ["MODEL.SWITCHABLE.CLASSIFIER_GRAD", "certain", "MODEL.SWITCHABLE.SLOW_START", "0.0",
        "SOLVER.AGGREGATION.MEMORY", "0.95"]  # fmt: skip
METHODS = {"sfsc": ("sfsc", OURS), "bct_s": ("bct_s", []), "unified_w100": ("unified", [])}
RUNS = 3.1  # all runs in units of SFSC's: the start and Unified cost about half of it each, BCT-S as much as SFSC


@dataclass(frozen=True)
class Scale:
    """Size of the trainings.

    Attributes:
        folder: Folder of the configs.
        suffix: Suffix of the configs' names.
        batch: Images per step, four of each person.
        most: Maximum number of steps of a run.
        calibration: Batches that determine the statistics of the norms.
    """

    folder: str
    suffix: str
    batch: int
    most: int
    calibration: int


FULL = Scale("configs/Market1501", "_R50", 64, 1500, 30)
TINY = Scale("configs/Synthetic", "", 8, 2, 1)


class Run:
    """One training of a network built from a config, in the plug-in's loop, without a trainer."""

    def __init__(
        self, scale: Scale, method: str, pictures: Pictures, steps: int, start: Path | None, device: str
    ) -> None:
        name, opts = METHODS[method]
        fixed = ["MODEL.DEVICE", device, "SEED", "0", "MODEL.HEADS.NUM_CLASSES", str(pictures.classes)]
        fixed += ["MODEL.BACKBONE.PRETRAIN", str(start is not None), "MODEL.SWITCHABLE.CHANNELS_LAST", "True"]
        fixed += ["MODEL.BACKBONE.PRETRAIN_PATH", str(start)] if start is not None else []
        self.cfg = load_config(f"{scale.folder}/{name}{scale.suffix}.yml", [*fixed, *opts])
        torch.manual_seed(0)
        self.model: SwitchableBaseline = build_model(self.cfg)
        self.pictures, self.steps, self.scale = pictures, steps, scale
        optimizer, _ = SwitchableTrainer.build_optimizer(self.cfg, self.model)
        loader = ResidentLoader(pictures, scale.batch, 4, min(steps, 4096), seed=0)
        half = self.cfg.SOLVER.AMP.ENABLED
        self.model.train()
        inner = (
            AMPTrainer(self.model, loader, optimizer, None, torch.amp.GradScaler(device))
            if half
            else SimpleTrainer(self.model, loader, optimizer, None)
        )
        self.loop = SwitchableTrainLoop(
            inner,
            build_aggregation(self.cfg, self.model),
            StepPlan.from_config(self.cfg, len(self.model.switch), steps),
            certainty=ClassCertainty.from_config(self.cfg, self.model),
            autocast=torch.float16 if half else None,
        )

    def train(self, steps: int | None = None) -> float:
        """Train, and return the seconds. The learning rate rises over a tenth of the run, then falls by a cosine."""
        optimizer, count = self.loop.optimizer, steps or self.steps
        self.loop.log.epoch_length = count  # so that the log is also read at the end
        rates = [group["lr"] for group in optimizer.param_groups]
        wait(self.cfg.MODEL.DEVICE)
        started = time.perf_counter()
        with EventStorage() as self.storage:
            for step in range(count):
                self.loop.iter = self.storage.iter = step
                warm, done = min(1.0, (step + 1) / max(1, self.steps // 10)), step / self.steps
                factor = warm * 0.5 * (1 + math.cos(math.pi * done))
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                self.loop.run_step()
        wait(self.cfg.MODEL.DEVICE)
        return time.perf_counter() - started

    def evaluate(self, query: Pictures, gallery: Pictures) -> dict[str, Any]:
        """The grid on persons that were not used for training."""
        loader = ResidentLoader(self.pictures, self.scale.batch, 4, self.scale.calibration, seed=1)
        batches = iter(loader)
        calibrate_bn(self.model, [next(batches) for _ in range(self.scale.calibration)])
        labels = [part.pids.cpu() for part in (query, gallery)] + [part.camids.cpu() for part in (query, gallery)]
        widths = self.model.switch.widths
        cells = all_cells(features_of(self.model, query), features_of(self.model, gallery), labels, widths)
        return grid_from_cells(cells, widths, "generated persons").to_dict()


def wait(device: str) -> None:
    """Wait until the device has finished its queued work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@torch.no_grad()
def features_of(model: SwitchableBaseline, pictures: Pictures) -> list[torch.Tensor]:
    """Normalised features of every sub-model, on the device."""
    model.eval()
    found: list[list[torch.Tensor]] = [[] for _ in model.switch.names]
    for batch in pictures.batches(256):
        images = model.preprocess_image(batch)
        for index, values in enumerate(found):
            with model.switch.use(index):
                values.append(torch.nn.functional.normalize(model.heads(model.backbone(images)).float()))
    return [torch.cat(values) for values in found]


def steps_that_fit(scale: Scale, train: Pictures, options: Options) -> int:
    """Number of steps for each run, from the time of a few SFSC steps, with a tenth of the time for everything else."""
    if options.dry_run:
        return scale.most
    run = Run(scale, "sfsc", train, 1000, None, options.device)
    run.train(10)  # searches for the fastest convolutions
    each = run.train(10) / 10
    return max(20, min(scale.most, int(0.85 * options.left() / (RUNS * each))))


def main() -> None:
    """Train, and write the results after each run."""
    options = read_options(__doc__)
    scale = TINY if options.dry_run else FULL
    torch.backends.cudnn.benchmark = not options.dry_run
    persons = load_persons(options.scratch / "persons.npz", options.device, 0.5 * options.left())
    steps = steps_that_fit(scale, persons["train"], options)
    content: dict[str, Any] = {
        "format": 1,
        "steps": steps,
        "batch": scale.batch,
        "persons": {name: [part.classes, len(part.images)] for name, part in persons.items()},
        "size": list(persons["train"].images.shape[2:]),
        "runs": {},
        "hardware": hardware(),
        "versions": versions(),
    }
    first = Run(scale, "unified_w100", persons["start"], steps, None, options.device)
    content["start_seconds"] = first.train()
    start = options.scratch / "start.pth"
    torch.save({"model": first.model.state_dict()}, start)
    write_json(options.output, content)
    del first
    for method in METHODS:
        gc.collect()
        longest = max((run["seconds"] for run in content["runs"].values()), default=0.0)
        if longest > options.left():
            content["runs"][method] = {"skipped": "no time was left"}
        else:
            run = Run(scale, method, persons["train"], steps, start, options.device)
            seconds = run.train()
            grid = run.evaluate(persons["query"], persons["gallery"])
            losses = {key: h.median(20) for key, h in run.storage.histories().items() if "loss" in key}
            content["runs"][method] = {"seconds": seconds, "losses": losses, "grid": grid}
            del run
        write_json(options.output, content)


if __name__ == "__main__":
    main()
