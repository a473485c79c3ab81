"""Preparation of a run: config, device, seed, data check, output folder."""

import argparse
import logging
import os
import random
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from fastreid.config import CfgNode, get_cfg
from fastreid.data.datasets.bases import ImageDataset
from fastreid.engine import default_setup
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.env import seed_all_rng

from .. import fastreid_shims
from ..aggregation import build_aggregator
from ..config import add_switchablecompat_config, check_switchablecompat_config, merge_config, merge_kept
from ..config_check import check_share, check_training_sizes, single_width
from ..config_unread import unread_settings
from ..data.check import check_train
from ..data.findings import Finding, LabelNames, raise_on_errors
from ..data.opening import Splits, check_rows, check_test_set, label_names, open_dataset
from ..data.training_sets import check_training_sets
from ..errors import InputError
from ..evaluation.gallery_draws import check_drawable
from ..evaluation.precision import check_precision
from ..fastreid_shims.loading import use_cpu_loader
from ..files import data_root, shipped
from ..losses import CompatibleLoss
from ..modeling.checkpoint import RECORD_KEY, read_checkpoint
from ..modeling.head import check_classifier
from ..modeling.opened import check_available, strip_training
from ..modeling.trained import read_trained
from .output_folder import check_writable, has_run, lock, record_kept, set_aside
from .resume import check_settings
from .screen import show_own_lines
from .step_plan import StepPlan

logger = logging.getLogger("fastreid.switchablecompat.setup")


def setup(args: argparse.Namespace) -> CfgNode:
    """Prepare a run by FastReID's arguments: config, device, folder, log, data check and seed.

    Returns:
        The frozen config, with the actual seed.

    Raises:
        InputError: The run would later fail, hang, or give meaningless results.
    """
    args.config_file = shipped(args.config_file)  # FastReID opens it too
    resume = args.resume and not args.eval_only
    folder = merge_config(args.config_file, args.opts).OUTPUT_DIR
    former = Checkpointer(torch.nn.Module(), folder).get_checkpoint_file() if resume else ""
    record = read_checkpoint(former).get(RECORD_KEY, {}) if former else {}
    cfg = _config(args, former, record)
    check_switchablecompat_config(cfg)
    check_device(cfg)
    on_cuda = cfg.MODEL.DEVICE.startswith("cuda")
    if comm.get_world_size() > cfg.TEST.IMS_PER_BATCH:
        rule = f"must be at least the number of processes ({comm.get_world_size()})"
        raise InputError("TEST.IMS_PER_BATCH", rule, cfg.TEST.IMS_PER_BATCH)
    if not args.eval_only:
        _check_training(cfg, former)
    use_cpu_loader(not on_cuda)
    amp_off = cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.DTYPE == "float16" and not on_cuda
    if amp_off:
        cfg.SOLVER.AMP.ENABLED = False
    changes = check_settings(cfg, record, former) if former else []
    if "seed" in record:
        cfg.SEED = record["seed"]
    elif cfg.SEED < 0:
        cfg.SEED = comm.shared_random_seed() if comm.get_world_size() > 1 else random.SystemRandom().randrange(2**31)
    cfg.freeze()
    new = not (former or args.eval_only)
    # The files of an earlier run must stay where they are if this one is rejected. The first process moves them.
    if comm.all_gather(new and has_run(cfg.OUTPUT_DIR))[0]:
        check_datasets(cfg, eval_only=False, warn=False)
    earlier = _claim(cfg, new=new)

    with record_kept(cfg.OUTPUT_DIR) if args.eval_only else nullcontext():
        if not getattr(args, "verbose", False):
            show_own_lines(cfg.OUTPUT_DIR)
        default_setup(cfg, args)
    logger.debug(f"FastReID shims in use: {', '.join(fastreid_shims.apply()) or 'none'}")
    logger.info(f"Seed {cfg.SEED}, device {cfg.MODEL.DEVICE}; all details are in {cfg.OUTPUT_DIR}/log.txt")
    if amp_off:
        logger.warning("SOLVER.AMP.ENABLED is set to False: float16 needs a CUDA device (SOLVER.AMP.DTYPE)")
    for line in changes:
        logger.warning(line)
    if resume and not former:
        logger.warning(f"{cfg.OUTPUT_DIR} has no checkpoint to resume from (last_checkpoint): a new run starts")
    if earlier:
        logger.warning(f"{cfg.OUTPUT_DIR} held an earlier run, which is now in {earlier}")
    if not args.eval_only:
        warn_of_unread(cfg)
    check_datasets(cfg, eval_only=args.eval_only)
    seed_all_rng((cfg.SEED + comm.get_rank()) % 2**32)
    return cfg


def check_device(cfg: CfgNode) -> None:
    """Reject a device that this machine or these processes cannot use, and a precision that the device lacks."""
    check_precision(cfg.TEST.PRECISION, cfg.MODEL.DEVICE)
    check_available(cfg.MODEL.DEVICE)
    if comm.get_world_size() > 1:
        _check_device_of_processes(cfg.MODEL.DEVICE)


def _check_device_of_processes(name: str) -> None:
    if ":" in name:
        raise InputError("MODEL.DEVICE", "must be cuda with several processes, each of which takes its own", name)
    if name == "cpu" and torch.distributed.get_backend() == "nccl":
        rule = "must be cuda with several processes where there are CUDA devices (hide them with CUDA_VISIBLE_DEVICES=)"
        raise InputError("MODEL.DEVICE", rule, name)


def _config(args: argparse.Namespace, former: str, record: Mapping[str, Any]) -> CfgNode:
    """The config of the command line, or the checkpoint's settings if there is no config file."""
    if args.eval_only:
        weights = merge_config(args.config_file, args.opts).MODEL.WEIGHTS
        if not os.path.isfile(weights):
            raise InputError("MODEL.WEIGHTS", "must be an existing checkpoint with --eval-only", repr(weights))
        cfg = read_trained(weights, args.config_file, args.opts).cfg
        strip_training(cfg, weights)
        return cfg
    if args.resume and not args.config_file:
        if "settings" not in record:
            rule = "must be given to resume, as no checkpoint stores its settings (last_checkpoint in OUTPUT_DIR)"
            raise InputError("--config-file", rule, former or "no checkpoint")
        return merge_kept(record["settings"], former, args.opts)
    return merge_config(args.config_file, args.opts)


def _claim(cfg: CfgNode, *, new: bool) -> Path | None:
    """Lock the output folder for this run. A new run moves the files of an earlier one; returns where to."""
    earlier = None
    check_writable(cfg.OUTPUT_DIR)
    if comm.is_main_process():
        lock(cfg.OUTPUT_DIR)
    comm.synchronize()  # every process must look for a checkpoint before one of them moves files
    if new and comm.is_main_process():
        reference = cfg.MODEL.REFERENCE
        needed = (cfg.MODEL.WEIGHTS, cfg.MODEL.BACKBONE.PRETRAIN_PATH, reference.CONFIG_FILE, reference.WEIGHTS)
        earlier = set_aside(cfg.OUTPUT_DIR, needed)
    comm.synchronize()  # so that no trainer finds an old checkpoint
    return earlier


def _check_training(cfg: CfgNode, former: str) -> None:
    """Let every component of a training check its settings; all processes need equal shares of a batch."""
    check_components(cfg)
    world = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH % world:
        rule = f"must be a multiple of the number of processes ({world})"
        raise InputError("SOLVER.IMS_PER_BATCH", rule, cfg.SOLVER.IMS_PER_BATCH)
    check_share(cfg, world)
    for part in ("BACKBONE", "HEADS"):
        if world > 1 and cfg.MODEL.DEVICE == "cpu" and cfg.MODEL[part].NORM == "syncBN":
            raise InputError(f"MODEL.{part}.NORM", "must be BN on a CPU: torch has syncBN for GPUs only", "syncBN")
    check_training_sizes(cfg)
    if not cfg.DATASETS.NAMES:
        raise InputError("DATASETS.NAMES", "must name a data set to train on", tuple(cfg.DATASETS.NAMES))
    if cfg.MODEL.WEIGHTS and not former and not os.path.isfile(cfg.MODEL.WEIGHTS):
        raise InputError("MODEL.WEIGHTS", "must be an existing checkpoint, or empty", repr(cfg.MODEL.WEIGHTS))


def check_components(cfg: CfgNode) -> None:
    """Let classifier, loss, aggregator and plan of a training check their settings (InputError)."""
    check_classifier(cfg)
    CompatibleLoss.from_config(cfg)
    build_aggregator(cfg)
    StepPlan.from_config(cfg, 1 if single_width(cfg) else len(cfg.MODEL.SWITCHABLE.WIDTHS), iterations=1)


def warn_of_unread(cfg: CfgNode) -> None:
    """Log a warning for every setting that differs from its default but that no code reads."""
    for line in unread_settings(cfg, add_switchablecompat_config(get_cfg())):
        logger.warning(f"no effect: {line}")


def check_datasets(cfg: CfgNode, *, eval_only: bool, warn: bool = True) -> None:
    """Check the items of all data sets of a run: log warnings if ``warn``, reject errors (InputError, with remedy)."""
    if not comm.is_main_process():
        comm.synchronize()  # the first process generates the data, or reports the error
        return
    train = None
    if not eval_only:
        opened = [(name, *_open(cfg, name, combine_all=cfg.DATASETS.COMBINEALL)) for name in cfg.DATASETS.NAMES]
        sets = [(name, splits["train"]) for name, _, splits in opened]
        train = [item for _, items in sets for item in items]
        names = LabelNames.of_several([label_names(dataset) for _, dataset, _ in opened])
        findings = [one for _, dataset, _ in opened for one in check_rows(dataset)]
        findings += check_training_sets(sets, names) + check_train(
            train,
            names=names,
            ims_per_batch=cfg.SOLVER.IMS_PER_BATCH,
            num_instance=cfg.DATALOADER.NUM_INSTANCE,
            sampler=cfg.DATALOADER.SAMPLER_TRAIN,
            world_size=comm.get_world_size(),
        )
        identities = len({item[1] for item in train})
        if 0 < cfg.MODEL.HEADS.NUM_CLASSES < identities:
            rule = f"must be 0 (count them) or at least the number of training identities ({identities})"
            raise InputError("MODEL.HEADS.NUM_CLASSES", rule, cfg.MODEL.HEADS.NUM_CLASSES)
        calibration = cfg.TEST.PRECISE_BN
        if calibration.ENABLED:
            _open(cfg, calibration.DATASET)
            if warn and calibration.DATASET not in cfg.DATASETS.NAMES:
                logger.warning(f"BN statistics will be those of {calibration.DATASET} (TEST.PRECISE_BN.DATASET)")
        _report(findings, "training data", warn)
    for name in cfg.DATASETS.TESTS:
        dataset, splits = _open(cfg, name)
        findings = check_test_set(dataset, splits, train, own=name in cfg.DATASETS.NAMES)
        findings += check_rows(dataset) if eval_only or name not in cfg.DATASETS.NAMES else []
        if cfg.TEST.GALLERY_DRAWS > 1:
            check_drawable([pid for _, pid, _ in splits["gallery"]], name)
        _report(findings, f"test data {name}", warn)
    comm.synchronize()


def _open(cfg: CfgNode, name: str, **options: bool) -> tuple[ImageDataset, Splits]:
    return open_dataset(name, data_root(), cfg.DATASETS.MANIFEST, **options)


def _report(findings: list[Finding], subject: str, warn: bool) -> None:
    raise_on_errors(findings, subject)
    for finding in findings if warn else ():
        logger.warning(f"{subject}: {finding.message}; {finding.fix}")
