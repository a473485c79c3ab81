"""``train_net``: FastReID's entry point and flags, for switchable models.

Example:
    python tools/train_net.py --config-file configs/Synthetic/sfsc_demo.yml
    python tools/train_net.py --config-file configs/Synthetic/sfsc_demo.yml --eval-only MODEL.WEIGHTS FILE
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from fastreid.engine import default_argument_parser, launch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

import switchablecompat  # noqa: F401  (spawned processes start here: shims first)

from .engine import SwitchableTrainer, load_for_evaluation, read_checkpoint, setup
from .engine.interruption import EXIT_CODE, PARENT, end_with, passed_on
from .engine.output_folder import unlock
from .errors import InputError, exit_on_input_error
from .modeling.checkpoint import RECORD_KEY


def run(args: argparse.Namespace) -> Mapping[str, Any]:
    """Train, resume or evaluate, in one process of the launch; returns FastReID's flat results."""
    cfg = setup(args)
    try:
        if args.eval_only:
            model = SwitchableTrainer.build_model(cfg)
            content = read_checkpoint(cfg.MODEL.WEIGHTS)
            load_for_evaluation(model, cfg.MODEL.WEIGHTS, content=content)
            # method and seed are the training run's: this command line may say anything
            return SwitchableTrainer.test(cfg, model, content.get(RECORD_KEY, {}))
        trainer = SwitchableTrainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()
    finally:
        unlock(cfg.OUTPUT_DIR)


def main() -> None:
    """The command line."""
    parser = default_argument_parser()
    parser.description = "Train or evaluate a switchable model; writes checkpoints, metrics and the grid to OUTPUT_DIR."
    parser.description += (
        " kill (SIGTERM) writes a checkpoint of the last step and exits with 143; Ctrl-C exits at once."
    )
    parser.epilog = "example: python tools/train_net.py --config-file configs/Synthetic/sfsc_demo.yml SEED 1"
    parser.error = _refuse_usage
    parser.set_defaults(dist_url="auto")  # a free port: FastReID's default is one for all runs of a user
    args = parser.parse_args()
    _check_processes(args)
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
    except ProcessRaisedException as error:  # what another process raised arrives as a printed traceback
        if "InputError: " in str(error):
            raise InputError(str(error)) from None
        kind, _, text = str(error).strip().rsplit("\n", 1)[-1].partition(": ")
        if kind in ("FloatingPointError", "OSError"):
            raise (FloatingPointError if kind == "FloatingPointError" else OSError)(text) from None
        raise


def _refuse_usage(message: str) -> NoReturn:
    """One line instead of the whole usage."""
    raise InputError("command line", f"{message} (see --help)")


def _check_processes(args: argparse.Namespace) -> None:
    """Refuse numbers of processes that would wait for each other for ever."""
    for option, value in (("--num-gpus", args.num_gpus), ("--num-machines", args.num_machines)):
        if value < 1:
            raise InputError(option, "must be at least 1", value)
    if not 0 <= args.machine_rank < args.num_machines:
        raise InputError("--machine-rank", f"must be below --num-machines {args.num_machines}", args.machine_rank)
    if args.num_machines > 1 and args.dist_url == "auto":
        raise InputError("--dist-url", "must be given for several machines, such as tcp://HOST:PORT", args.dist_url)
    if 0 < torch.cuda.device_count() < args.num_gpus:
        raise InputError("--num-gpus", f"must be at most {torch.cuda.device_count()} on this machine", args.num_gpus)


if __name__ == "__main__":
    exit_on_input_error(main)
