"""Train or evaluate a switchable model, as FastReID's ``train_net.py`` does for its models."""

import argparse
import builtins
import json
import os
import signal
import sys
from pathlib import Path

import torch
from fastreid.engine import launch
from fastreid.utils import comm
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ..engine import SwitchableTrainer, setup
from ..engine.interruption import EXIT_CODE, PARENT, end_with, passed_on
from ..engine.output_folder import unlock
from ..errors import InputError, machine_trouble
from ..evaluation.grid import CompatibilityGrid
from ..evaluation.grid_files import render_summary
from ..modeling.opened import open_model
from . import typed


def run(args: argparse.Namespace) -> None:
    """Train, resume or evaluate in one process of the launch. The main process then prints the results."""
    cfg = setup(args)
    try:
        if args.eval_only:
            trained = open_model(cfg.MODEL.WEIGHTS, args.config_file, args.opts, as_trained=True)
            SwitchableTrainer.test(cfg, trained.network, trained.record)
        else:
            trainer = SwitchableTrainer(cfg)
            trainer.resume_or_load(resume=args.resume)
            trainer.train()
    finally:
        unlock(cfg.OUTPUT_DIR)
    if not comm.is_main_process():
        return
    for name in cfg.DATASETS.TESTS:
        path = Path(cfg.OUTPUT_DIR, f"grid_{name}.json" if len(cfg.DATASETS.TESTS) > 1 else "grid.json")
        print(f"\n{render_summary(CompatibilityGrid.from_dict(json.loads(path.read_text())))}")
        print("Written: " + ", ".join(str(path.with_suffix(kind)) for kind in (".json", ".csv", ".md", ".png")))
    weights = cfg.MODEL.WEIGHTS if args.eval_only else os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
    report = os.path.join(cfg.OUTPUT_DIR, "report")
    print(f"Next: {typed('report')} --weights {weights} --output {report}", flush=True)


def main(args: argparse.Namespace) -> None:
    if 0 < torch.cuda.device_count() < args.num_gpus:
        raise InputError("--num-gpus", f"must be at most {torch.cuda.device_count()} on this machine", args.num_gpus)
    if PARENT in os.environ:
        end_with(int(os.environ.pop(PARENT)))
    try:
        with passed_on(several=args.num_gpus * args.num_machines > 1):
            launch(
                run,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(args,),
            )
    except KeyboardInterrupt:
        print("interrupted; --resume continues from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except ProcessExitedException as error:
        if error.exit_code in (EXIT_CODE, -signal.SIGTERM):
            sys.exit(EXIT_CODE)
        raise
    except ProcessRaisedException as error:  # an error of another process arrives as a printed traceback
        if "InputError: " in str(error):
            raise InputError(str(error)) from None
        kind, _, text = str(error).strip().rsplit("\n", 1)[-1].partition(": ")
        of_builtin = getattr(builtins, kind.rpartition(".")[2].replace("OutOfMemoryError", "MemoryError"), None)
        if isinstance(of_builtin, type) and issubclass(of_builtin, Exception):
            same = of_builtin(text)
            if machine_trouble(same):
                raise same from None
        raise
