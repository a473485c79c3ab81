"""Checkpoints that are whole or absent, and that say which run they belong to."""

from __future__ import annotations

import os
from typing import Any

import torch
from fastreid.utils.checkpoint import Checkpointer

from ..files import atomic_write
from ..provenance import family_digest

RECORD_KEY = "switchablecompat"


class SwitchableCheckpointer(Checkpointer):
    """FastReID's Checkpointer; files get their final name when they are complete, and carry the run's record.

    The record is below the key ``switchablecompat``, with the digest of the family that these weights are.
    """

    record: dict[str, Any]

    @classmethod
    def take_over(
        cls, plain: Checkpointer, record: dict[str, Any], **checkpointables: object
    ) -> SwitchableCheckpointer:
        """The same checkpointer with a record, and with further objects to save."""
        new = cls.__new__(cls)
        new.__dict__.update(plain.__dict__)
        new.record = record
        new.checkpointables = {**plain.checkpointables, **checkpointables}
        return new

    def save(self, name: str, **kwargs: Any) -> None:
        """See FastReID's ``Checkpointer.save``."""
        if not self.save_dir or not self.save_to_disk:
            return
        weights = self.model.state_dict()
        data = {
            "model": weights,
            **{key: checkpointable.state_dict() for key, checkpointable in self.checkpointables.items()},
            **kwargs,
            RECORD_KEY: {**self.record, "family": family_digest(weights)},
        }
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        with atomic_write(path) as temporary:
            torch.save(data, temporary)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note the newest checkpoint; only ever names a whole file."""
        with atomic_write(os.path.join(self.save_dir, "last_checkpoint")) as temporary:
            temporary.write_text(last_filename_basename)
