"""``train_net``: FastReID's entry point and flags, for switchable models.

Example:
    python tools/train_net.py --config-file configs/Synthetic/sfsc_demo.yml
    python tools/train_net.py --config-file configs/Synthetic/sfsc_demo.yml --eval-only MODEL.WEIGHTS FILE
"""

from __future__ import annotations

import argparse

from fastreid.engine import default_argument_parser, launch
from torch.multiprocessing import ProcessRaisedException

import switchablecompat  # noqa: F401  (spawned processes start here: shims first)

from .engine import SwitchableTrainer, load_for_evaluation, read_checkpoint, setup
from .engine.checkpointer import RECORD_KEY
from .errors import InputError, exit_on_input_error


def run(args: argparse.Namespace):
    """Train, resume or evaluate, in one process of the launch; returns FastReID's flat results."""
    cfg = setup(args)
    if args.eval_only:
        model = SwitchableTrainer.build_model(cfg)
        load_for_evaluation(model, cfg.MODEL.WEIGHTS)
        # method and seed are the training run's: this command line may say anything
        return SwitchableTrainer.test(cfg, model, read_checkpoint(cfg.MODEL.WEIGHTS).get(RECORD_KEY, {}))
    trainer = SwitchableTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def main() -> None:
    """The command line."""
    parser = default_argument_parser()
    parser.description = "Train or evaluate a switchable model; writes checkpoints, metrics and the grid to OUTPUT_DIR."
    parser.epilog = "example: python tools/train_net.py --config-file configs/Synthetic/sfsc_demo.yml SEED 1"
    args = parser.parse_args()
    try:
        launch(
            run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessRaisedException as error:  # what another process raised arrives as a printed traceback
        if "InputError: " in str(error):
            raise InputError(str(error)) from None
        raise


if __name__ == "__main__":
    exit_on_input_error(main)
