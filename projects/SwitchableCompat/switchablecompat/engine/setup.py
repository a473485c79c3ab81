"""What happens before a run: device, seed, data check, output folder."""

from __future__ import annotations

import argparse
import logging
import os
import random

import torch
from fastreid.data.build import _root
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.engine import default_setup
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng

from ..config import load_config
from ..data.check import check_items, raise_on_errors
from ..errors import InputError
from ..fastreid_shims import applied
from ..fastreid_shims.loading import use_cpu_loader

logger = logging.getLogger("fastreid.switchablecompat.setup")


def setup(args: argparse.Namespace):
    """Load and check the config, prepare device, folder and log, check the data, and seed everything.

    Args:
        args: FastReID's command-line arguments.

    Returns:
        The frozen config, with the seed that is really used.

    Raises:
        InputError: Anything that would fail, hang or mean nothing later.
    """
    cfg = load_config(args.config_file, args.opts)
    cfg.defrost()
    on_cuda = cfg.MODEL.DEVICE.startswith("cuda")
    if on_cuda and not torch.cuda.is_available():
        raise InputError("MODEL.DEVICE", "no CUDA device is usable here; add MODEL.DEVICE cpu", cfg.MODEL.DEVICE)
    use_cpu_loader(not on_cuda)
    amp_off = cfg.SOLVER.AMP.ENABLED and not on_cuda
    if amp_off:
        cfg.SOLVER.AMP.ENABLED = False
    if cfg.SEED < 0:
        cfg.SEED = comm.shared_random_seed() if comm.get_world_size() > 1 else random.SystemRandom().randrange(2**31)
    if args.eval_only:
        cfg.MODEL.BACKBONE.PRETRAIN = False
        cfg.MODEL.HEADS.NUM_CLASSES = 1  # features do not need the classifier
        if not os.path.isfile(cfg.MODEL.WEIGHTS):
            raise InputError("MODEL.WEIGHTS", "must be an existing checkpoint with --eval-only", repr(cfg.MODEL.WEIGHTS))
    cfg.freeze()

    default_setup(cfg, args)
    logger.info(f"FastReID shims in use: {', '.join(applied()) or 'none'}; seed {cfg.SEED}")
    if amp_off:
        logger.warning("SOLVER.AMP.ENABLED is set to False: mixed precision needs a CUDA device")
    check_datasets(cfg, eval_only=args.eval_only)
    seed_all_rng(cfg.SEED + comm.get_rank())
    return cfg


def build_dataset(cfg, name: str):
    """One of FastReID's registered data sets, at FastReID's root (environment variable FASTREID_DATASETS).

    Raises:
        InputError: Unknown name, or a data set that is not where it is expected.
    """
    if name not in DATASET_REGISTRY._obj_map:
        raise InputError("DATASETS", f"must be among {sorted(DATASET_REGISTRY._obj_map)}", name)
    try:
        return DATASET_REGISTRY.get(name)(root=_root, manifest=cfg.DATASETS.MANIFEST)
    except (RuntimeError, FileNotFoundError) as error:  # FastReID's '"folder" is not found'
        rule = f"must lie below {_root} (set FASTREID_DATASETS to another root)"
        raise InputError(f"data set {name}", rule, str(error).replace("\n", " ")) from None


def check_datasets(cfg, *, eval_only: bool) -> None:
    """Check the items of all data sets of a run before anything is trained; log warnings.

    Raises:
        InputError: The first error, with what to do about it.
    """
    if comm.get_rank() > 0:
        comm.synchronize()  # the first process generates or complains
        return
    train = [] if not eval_only else None
    if train is not None:
        for name in cfg.DATASETS.NAMES:
            train += build_dataset(cfg, name).train
        findings = check_items(
            train,
            None,
            None,
            ims_per_batch=cfg.SOLVER.IMS_PER_BATCH,
            num_instance=cfg.DATALOADER.NUM_INSTANCE,
            sampler=cfg.DATALOADER.SAMPLER_TRAIN,
            world_size=comm.get_world_size(),
        )
        _report(findings, "training data")
    for name in cfg.DATASETS.TESTS:
        dataset = build_dataset(cfg, name)
        _report(check_items(None, dataset.query, dataset.gallery), f"test data {name}")
    comm.synchronize()


def _report(findings, subject: str) -> None:
    raise_on_errors(findings, subject)
    for finding in findings:
        logger.warning(f"{subject}: {finding.message}; {finding.fix}")
