"""The screen output of a run: its own lines and all warnings. OUTPUT_DIR/log.txt has the full log."""

import datetime
import logging
import sys

from fastreid.engine.hooks import HookBase
from fastreid.utils import comm
from fastreid.utils.logger import setup_logger

OURS = "fastreid.switchablecompat"
logger = logging.getLogger(f"{OURS}.screen")


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname}: {text}"


def _is_shown(record: logging.LogRecord) -> bool:
    return record.levelno >= (logging.INFO if record.name.startswith(OURS) else logging.WARNING)


def show_own_lines(*output_dir: str) -> None:
    """Keep FastReID's lines (environment, config, the whole network) off the screen. Call it before the first of them.

    The log.txt of a run's folder, if one is given, still gets these lines.
    """
    log = setup_logger(*output_dir, distributed_rank=comm.get_rank())  # FastReID's later call finds it done
    for handler in log.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.addFilter(_is_shown)
            handler.setFormatter(_Plain("%(message)s"))
    # It warns on machines without a GPU when FastReID describes the environment.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


class EpochLine(HookBase):
    """Prints one line at the end of each epoch: loss, learning rate, speed and time left."""

    def after_epoch(self) -> None:
        trainer = self.trainer
        histories = trainer.storage.histories()
        text = f"epoch {trainer.epoch + 1}/{trainer.max_epoch}"
        if "total_loss" in histories:
            text += f"  loss {histories['total_loss'].median(200):.3f}"
        if "lr" in histories:
            text += f"  lr {histories['lr'].latest():.2e}"
        if "time" in histories:  # not in the first steps
            seconds = histories["time"].median(1000)
            left = datetime.timedelta(seconds=int(seconds * max(0, trainer.max_iter - trainer.iter - 1)))
            text += f"  {seconds:.2f} s a step  {left} left"
        logger.info(text)
