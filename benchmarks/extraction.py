"""Feature extraction of all widths in one pass, compared with reading the data alone plus the forwards alone."""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from switchablecompat.engine import SwitchableTrainer
from switchablecompat.engine.setup import check_datasets
from switchablecompat.evaluation.features import extract_features, inference_mode
from switchablecompat.fastreid_shims.loading import use_cpu_loader
from switchablecompat.modeling import SwitchableBaseline

from .step import changed, load
from .timing import Row, compare, interleave


def measure(arguments: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """One pass for all widths against its limit, and against a pass for each width, as separate models need it."""
    cfg = load(arguments.config_file, arguments.opts)
    use_cpu_loader(not cfg.MODEL.DEVICE.startswith("cuda"))
    check_datasets(cfg, eval_only=True)
    (dataset,) = cfg.DATASETS.TESTS
    model, rows = SwitchableTrainer.build_model(cfg), []
    for workers in sorted({0, cfg.DATALOADER.NUM_WORKERS}):
        loader, _ = SwitchableTrainer.build_test_loader(changed(cfg, "DATALOADER.NUM_WORKERS", workers), dataset)
        seconds = interleave(tasks_of(model, loader), arguments.repeats)
        seconds["limit"] = seconds["data"] + seconds["forwards"]
        name = f"features of all widths, loader with {workers} workers"
        rows += [
            compare(name, seconds, "ours", "limit", 1.05, "one pass over the data + the forwards"),
            compare(name, seconds, "ours", "separate", None, "a pass for each width"),
        ]
    return rows, {"images": sum(len(batch["targets"]) for batch in loader)}


def tasks_of(model: SwitchableBaseline, loader: DataLoader) -> dict[str, Callable[[], object]]:
    """Our pass, a pass for each width, and the parts of ours: reading, decoding and collating, and the forwards."""
    return {
        "ours": lambda: extract_features(model, loader),
        "separate": lambda: [extract_features(model, loader, indices=[index]) for index in range(len(model.switch))],
        "data": lambda: sum(len(batch["targets"]) for batch in loader),
        "forwards": forwards_alone(model, list(loader)),
    }


def forwards_alone(model: SwitchableBaseline, batches: list[dict[str, Tensor]]) -> Callable[[], None]:
    """The forwards of all sub-models on batches in memory."""

    def run() -> None:
        with inference_mode(model):
            for batch in batches:
                images = model.preprocess_image(batch)
                for index in range(len(model.switch)):
                    with model.switch.use(index):
                        model.heads(model.backbone(images))
        torch.cuda.synchronize() if images.is_cuda else None

    return run
