"""Train SFSC, BCT-S and Unified with a ResNet-50 from the same pretrained start, on generated persons on the device.

First the full model alone is trained on persons that no other part uses. All three methods start from its backbone, as
they would from ImageNet's weights. Then each method trains for the same number of steps, and its grid is evaluated.
"""

import switchablecompat  # noqa: F401  (before anything of FastReID)

# isort: split
import gc
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage
from torch.utils.benchmark import timer

from benchmarks.step import training_loop
from switchablecompat.config import load_config
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.engine.step_plan import StepPlan
from switchablecompat.evaluation.evaluator import evaluate_task
from switchablecompat.evaluation.features import extract_features
from switchablecompat.evaluation.ranking import ProtocolMatches
from switchablecompat.evaluation.task import RetrievalTask, normalised
from switchablecompat.files import write_json
from switchablecompat.modeling import SwitchableBaseline
from switchablecompat.modeling.calibration import calibrate_bn
from switchablecompat.provenance import hardware, versions

from .options import Options, read_options
from .resident import Pictures, ResidentLoader, load_persons

# Config and options of each method. BCT-S with agreement is SFSC without both of its parts.
AGREEMENT = ["MODEL.LOSSES.NAME", "('CompatibleLoss','TripletLoss','DistillationLoss')"]
METHODS: dict[str, tuple[str, list[str]]] = {
    "sfsc": ("sfsc", []),
    "unified_w100": ("unified", []),
    "bct_s": ("bct_s", []),
    "bct_s_agreement": ("bct_s", AGREEMENT),
    "sfsc_no_uncertainty": ("sfsc_no_uncertainty", []),
}
START = 4  # steps of the start for each step of a method: from random weights it needs more
RUNS = 5.4  # all runs in units of SFSC's: four that cost as much, Unified and the start's rounds a quarter of it


@dataclass(frozen=True)
class Scale:
    """Size of the trainings."""

    config: str  # path of a method's config, from its name
    batch: int  # images per step, four of each person; enough of them to keep a large GPU busy between launches
    rate: float  # factor on the config's learning rates, which are for 64 images
    most: int  # maximum number of steps of a run
    calibration: int  # batches that determine the statistics of the norms


FULL = Scale("configs/Market1501/{}_R50.yml", 256, 2.0, 1500, 12)
TINY = Scale("configs/Synthetic/{}.yml", 8, 1.0, 2, 1)


class Run:
    """One training of a network built from a config, in the plug-in's loop, without a trainer."""

    def __init__(
        self, scale: Scale, method: str, pictures: Pictures, steps: int, start: Path | None, device: str
    ) -> None:
        fixed = ["MODEL.DEVICE", device, "SEED", "0", "MODEL.HEADS.NUM_CLASSES", str(pictures.classes)]
        fixed += ["MODEL.BACKBONE.PRETRAIN", str(start is not None), "MODEL.SWITCHABLE.CHANNELS_LAST", "True"]
        fixed += ["MODEL.BACKBONE.PRETRAIN_PATH", str(start)] if start is not None else []
        config, opts = METHODS[method]
        self.cfg = load_config(scale.config.format(config), [*fixed, *opts])
        torch.manual_seed(0)
        self.model: SwitchableBaseline = build_model(self.cfg)
        self.pictures, self.steps, self.scale = pictures, steps, scale
        optimizer, _ = SwitchableTrainer.build_optimizer(self.cfg, self.model)
        loader = ResidentLoader(pictures, scale.batch, min(steps, 4096), seed=0)
        self.model.train()
        plan = StepPlan.from_config(self.cfg, len(self.model.switch), steps)
        self.loop = training_loop(self.cfg, self.model, loader, optimizer, plan=plan)

    def train(self, steps: int | None = None) -> float:
        """Train, and return the seconds. The learning rate rises over a tenth of the run, then falls by a cosine."""
        optimizer, count = self.loop.optimizer, steps or self.steps
        self.loop.log.epoch_length = count  # so that the log is also read at the end
        rates = [group["lr"] for group in optimizer.param_groups]
        started = timer()  # waits for the GPU
        with EventStorage() as self.storage:
            for step in range(count):
                self.loop.iter = self.storage.iter = step
                warm, done = min(1.0, (step + 1) / max(1, self.steps // 10)), step / self.steps
                factor = self.scale.rate * warm * 0.5 * (1 + math.cos(math.pi * done))
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                self.loop.run_step()
        return timer() - started

    def evaluate(self, query: Pictures, gallery: Pictures) -> dict[str, Any]:
        """The grid on persons that were not used for training."""
        count = self.scale.calibration
        batches = iter(ResidentLoader(self.pictures, self.scale.batch, count, seed=1))
        calibrate_bn(self.model, list(itertools.islice(batches, count)))
        asked, searched = (extract_features(self.model, list(part.batches(256))) for part in (query, gallery))
        assert asked is not None  # there is one process
        assert searched is not None
        task = RetrievalTask(
            self.model.switch.widths,
            normalised(asked.values),
            normalised(searched.values),
            ProtocolMatches(asked.pids, searched.pids, asked.camids, searched.camids),
            "generated persons",
        )
        return evaluate_task(task)[0].to_dict()


def steps_that_fit(scale: Scale, train: Pictures, options: Options) -> int:
    """Number of steps for each run, from the time of a few SFSC steps, with a tenth of the time for everything else."""
    if options.dry_run:
        return scale.most
    run = Run(scale, "sfsc", train, 1000, None, options.device)
    run.train(10)  # the first steps load kernels
    each = run.train(10) / 10
    return max(20, min(scale.most, int(0.85 * options.left() / (RUNS * each))))


def main() -> None:
    """Train, and write the results after each run."""
    options = read_options(__doc__)
    scale = TINY if options.dry_run else FULL
    persons = load_persons(options.scratch / "persons.npz", options.device, 0.5 * options.left())
    steps = steps_that_fit(scale, persons["train"], options)
    content: dict[str, Any] = {
        "format": 1,
        "steps": steps,
        "start_steps": START * steps,
        "batch": scale.batch,
        "persons": {name: [part.classes, len(part.images)] for name, part in persons.items()},
        "size": list(persons["train"].images.shape[2:]),
        "runs": {},
        "hardware": hardware(),
        "versions": versions(),
    }
    run = Run(scale, "unified_w100", persons["start"], START * steps, None, options.device)
    content["start_seconds"] = run.train()
    start = options.scratch / "start.pth"
    torch.save({"model": run.model.state_dict()}, start)
    write_json(options.output, content)
    del run
    for method in METHODS:
        gc.collect()
        longest = max((run.get("seconds", 0.0) for run in content["runs"].values()), default=0.0)
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
