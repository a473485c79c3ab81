"""Checkpoints that are never incomplete, and that carry the record of their run."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from fastreid.utils.checkpoint import Checkpointer

from ..errors import InputError
from ..files import atomic_write
from ..modeling.checkpoint import RECORD_KEY
from ..provenance import family_digest


class SwitchableCheckpointer(Checkpointer):
    """FastReID's Checkpointer. Files get their final name when they are complete, and carry the run's record.

    The record (:func:`~switchablecompat.modeling.trained.run_record`) is below the key ``switchablecompat``, with the
    family digest of the weights. The checkpointer is made from FastReID's, and further objects to save.
    """

    def __init__(self, plain: Checkpointer, record: dict[str, Any], **checkpointables: object) -> None:
        self.__dict__.update(plain.__dict__)
        self.record = record
        self.checkpointables |= checkpointables

    def prepare(self, files: int) -> None:
        """Remove unfinished files of a killed run; reject a disk without space for a checkpoint (InputError)."""
        if not self.save_dir or not self.save_to_disk:
            return
        for leftover in Path(self.save_dir).glob(".*.tmp.pth"):  # see files.atomic_write
            leftover.unlink()
        weights = sum(value.nbytes for value in self.model.state_dict().values())
        largest = 3 * weights  # with Adam: weights and two moments
        free = shutil.disk_usage(self.save_dir).free
        if free < largest:
            rule = f"must have room for a checkpoint of up to {largest / 2**20:.0f} MiB"
            raise InputError("OUTPUT_DIR", rule, f"{free / 2**20:.0f} MiB free at {self.save_dir}")
        if free < files * largest:
            self.logger.warning(
                f"{self.save_dir} has {free / 2**20:.0f} MiB free; this run writes up to {files} checkpoints "
                f"of up to {largest / 2**20:.0f} MiB"
            )

    def save(self, name: str, **kwargs: Any) -> None:
        """Save as FastReID does. If that fails (InputError), the previous checkpoint stays complete."""
        if not self.save_dir or not self.save_to_disk:
            return
        weights = self.model.state_dict()
        data = {
            "model": weights,
            **{key: checkpointable.state_dict() for key, checkpointable in self.checkpointables.items()},
            **kwargs,
            RECORD_KEY: {**self.record, "family": family_digest(weights, self.record["features"])},
        }
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        try:
            with atomic_write(path) as temporary:
                torch.save(data, temporary)
            self.tag_last_checkpoint(os.path.basename(path))
        except (OSError, RuntimeError) as error:  # torch raises the latter for an incomplete write
            raise InputError(path, "must be a file that can be written", str(error).split("\n")[0]) from error

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record the newest checkpoint, which is always a complete file."""
        with atomic_write(os.path.join(self.save_dir, "last_checkpoint")) as temporary:
            temporary.write_text(last_filename_basename)
