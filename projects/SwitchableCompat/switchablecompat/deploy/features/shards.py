"""Restartable extraction of features into shards, by any number of processes on any number of machines.

The list of images is cut into shards of fixed size; process ``r`` of ``n`` takes the shards ``r, r + n, ...``. A shard
gets its name only when it is complete, so a restart, with any number of processes, writes the missing ones. The
processes exchange nothing: all read the same list, which ``extract.json`` in the folder identifies. A shard also
records the sizes and times of its image files, and is written again if a file has changed, or if it lacks images that
were unreadable (if these are to be skipped: once one of them can be read).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ...choices import FULL
from ...errors import InputError
from ...files import write_json
from ..encoder import Encoder, encode, is_readable
from ..image_list import LabelledImage
from .feature_file import FeatureFile, write_features

logger = logging.getLogger("fastreid.switchablecompat.extract")

FORMAT = 1
JOB, JOB_KEY, STATE_KEY = "extract.json", "extraction", "images_state"


class Extracted(NamedTuple):
    """What a process's share has become: shards written now, shards that were there, and images that all these lack."""

    written: int
    there: int
    left_out: int


class Process(NamedTuple):
    """The number of this process, from 0, and the number of all processes that extract."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Process:
        """Read the numbers that ``torchrun`` sets; without them, this is the only process."""
        rank, size = environment.get("RANK", "0"), environment.get("WORLD_SIZE", "1")
        if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
            raise InputError("RANK, WORLD_SIZE", "must be a process's number and how many there are", f"{rank}, {size}")
        return cls(int(rank), int(size))


def extract(
    encoder: Encoder,
    items: Sequence[LabelledImage],
    folder: str | Path,
    *,
    shard_size: int,
    first_id: int = 0,
    process: Process = Process(),  # noqa: B008  (immutable)
    skip_unreadable: bool = False,
    **reading: Any,
) -> Extracted:
    """Write the missing shards among this process's.

    Args:
        encoder, items: the sub-model, and all images, the same list in every process.
        folder, shard_size: of the shards, which is created if needed; images per shard.
        first_id: id of the first image. The ids of the others follow, so that separate extractions can be joined.
        process: this process, of all that extract.
        skip_unreadable: leave out images that cannot be read, with a warning.
        **reading: ``batch_size`` and ``workers`` of :func:`~..encoder.encode`.

    Raises:
        InputError: the folder is of another extraction, or an image cannot be read.
    """
    folder = Path(folder)
    names = shard_names(len(items), shard_size)
    job = _claim(folder, {
        "format": FORMAT,
        **encoder.card.space,
        "width": encoder.card.width,
        **({} if encoder.card.precision == FULL else {"precision": encoder.card.precision}),
        "first_id": first_id,
        "num_images": len(items),
        "shard_size": shard_size,
        "images": _digest(json.dumps([*item]) for item in items),
    })  # fmt: skip
    starts = range(0, len(items), shard_size)
    parts = zip(names, starts, strict=True)
    shards = [_Shard(folder / name, first_id + start, items[start : start + shard_size]) for name, start in parts]
    own = shards[process.rank :: process.world_size]
    again = encoder if skip_unreadable else None
    missing = [shard for shard in own if not shard.is_written(job, again)]
    total = sum(len(shard.images) for shard in missing)
    with tqdm(total=total, desc=f"Process {process.rank}/{process.world_size}", unit="image") as progress:
        for path, first, images in missing:
            metadata = {JOB_KEY: job, STATE_KEY: _state(images)}  # taken before reading, to notice changes meanwhile
            batches = encode(encoder, images, skip_unreadable=skip_unreadable, **reading)
            write_features(path, encoder, batches, progress, first, metadata)
    left_out = sum(len(shard.images) - FeatureFile(shard.path).num_rows for shard in own)
    return Extracted(len(missing), len(own) - len(missing), left_out)


def shard_names(num_items: int, shard_size: int) -> list[str]:
    """Names of the shards of ``num_items`` images, in order."""
    count = -(-num_items // shard_size)
    return [f"part-{number:05d}-of-{count:05d}.parquet" for number in range(count)]


def open_shards(folders: Sequence[str | Path]) -> list[FeatureFile]:
    """Open the feature files of folders, in the order of their names. A folder must hold a whole extraction."""
    files: list[FeatureFile] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(folder, "must be a folder of feature files", "no such folder")
        found = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
        if (folder / JOB).is_file():
            job = _read_job(folder)
            expected = shard_names(job["num_images"], job["shard_size"])
            lacking = sorted({*expected} - {path.name for path in found})
            if lacking:
                rule = f"must hold all {len(expected)} shards: start the extraction again"
                raise InputError(folder, rule, f"{len(expected) - len(lacking)}, without {lacking[0]}")
        if not found:
            raise InputError(folder, "must hold feature files (*.parquet)", "none")
        files += map(FeatureFile, found)
    return files


def _claim(folder: Path, job: dict[str, Any]) -> str:
    """Record the job of a folder, or check that its recorded job is the same; return the job's digest."""
    if (folder / JOB).is_file():
        earlier = _read_job(folder)
        for key in {**earlier, **job}:
            if earlier.get(key) != job.get(key):
                rule = f"holds an extraction of another {key}, {earlier.get(key)}; choose a new folder"
                raise InputError(folder, rule, job.get(key))
    else:  # several processes may do this at the same time, and write the same content
        write_json(folder / JOB, job)
    return _digest([json.dumps(job, sort_keys=True)])


def _read_job(folder: Path) -> dict[str, Any]:
    try:
        job = json.loads((folder / JOB).read_text(encoding="utf-8"))
        shard_names(job["num_images"], job["shard_size"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(folder / JOB, "must be what the command extract wrote", error) from None
    return job


class _Shard(NamedTuple):
    path: Path
    first_id: int
    images: Sequence[LabelledImage]

    def is_written(self, job: str, skipping: Encoder | None) -> bool:
        """Whether this shard need not be written again. It must be if it is damaged, lacks images, or they changed.

        With an encoder, ``skipping`` the images that it cannot read, a shard may lack those.
        """
        if not self.path.exists():
            return False
        try:
            file = FeatureFile(self.path)
        except InputError as error:
            logger.warning(f"made again: {error}")
            return False
        if file.metadata.get(JOB_KEY) != job:
            raise InputError(self.path, f"must be a shard of this extraction, {job}", file.metadata.get(JOB_KEY))
        if file.metadata.get(STATE_KEY) != _state(self.images):
            logger.warning(f"made again: {self.path}: its images have been written since, or have another size")
            return False
        there = {*file.ids().tolist()} if file.num_rows < len(self.images) else None
        lacking = [] if there is None else [one for i, one in enumerate(self.images, self.first_id) if i not in there]
        if lacking and (skipping is None or any(is_readable(skipping, one) for one in lacking)):
            logger.warning(f"made again: {self.path}: it lacks {len(lacking)} images that could not be read")
            return False
        return True


def _state(images: Sequence[LabelledImage]) -> str:
    """Digest of the image files' sizes and times, which shows changes without reading the files."""
    found = (os.stat(item.path) if os.path.exists(item.path) else None for item in images)
    return _digest(f"{status.st_size} {status.st_mtime_ns}" if status else "none" for status in found)


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return f"sha256:{digest.hexdigest()}"
