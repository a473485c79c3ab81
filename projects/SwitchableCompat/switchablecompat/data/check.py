"""What is wrong with a data set, found before training instead of hours into it.

:func:`check_items` looks at FastReID's items ``(path, pid, camid)`` and never opens an image, so that it can run at
every start; :func:`check_images` decodes every image. Both return :class:`Finding` objects: an ``error`` makes training
or evaluation fail, hang or mean nothing, a ``warning`` makes the result doubtful, a ``note`` is only worth knowing.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from tqdm import tqdm

from switchablecompat.config_check import IDENTITY_SAMPLERS
from switchablecompat.errors import InputError, name_some
from switchablecompat.fastreid_shims.loading import READ_RIGHT

Item = tuple[str, Any, Any]

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
LOOK_AGAIN = "check the folder and the suffix of the images (FastReID's own data sets read .jpg only)"
REAL_CAMERAS = "give the real cameras, or use a manifest without the column camid"
MIN_SIDE, MAX_SIDE = 16, 4096  # pixels; re-ID crops are about 64 to 512 pixels high

# code -> (level, what is said of the images, fix).
_IMAGE_TROUBLES: dict[str, tuple[Level, str, str]] = {
    "empty-image": ("error", "are empty", "restore the files or take them out of the list"),
    "unreadable-image": ("error", "cannot be decoded", "restore the files or take them out of the list"),
    "wrong-mode": ("error", "are neither RGB nor greyscale", "convert them to RGB"),
    "tiny-image": ("warning", f"have a side below {MIN_SIDE} pixels", "leave out detections that are too small"),
    "huge-image": ("warning", f"have a side above {MAX_SIDE} pixels", "shrink them: loading will be slow"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: how bad, a short fixed ``code``, what was found, and what to do about it."""

    level: Level
    code: str
    message: str
    fix: str


def missing_files(paths: Iterable[str]) -> list[str]:
    """The ``paths`` that are not there, each once, in the order given.

    One listing per folder instead of one question per file: seconds instead of minutes on network disks.
    """
    listings, missing = dict[str, set[str]](), []
    for path in dict.fromkeys(paths):
        folder, name = os.path.split(path)
        if folder not in listings:
            try:
                listings[folder] = set(os.listdir(folder or "."))
            except OSError:
                listings[folder] = set()
        # a name may be written otherwise than it is listed (upper case, Unicode form), so ask again before accusing
        if name not in listings[folder] and not os.path.isfile(path):
            missing.append(path)
    return missing


def check_items(
    train: Sequence[Item] | None,
    query: Sequence[Item] | None,
    gallery: Sequence[Item] | None,
    *,
    ims_per_batch: int | None = None,
    num_instance: int | None = None,
    sampler: str | None = None,
    max_rank: int = 10,
    world_size: int = 1,
    train_prefix: str | None = None,
    compare_content: bool = False,
) -> list[Finding]:
    """Check FastReID's items without opening an image.

    Args:
        train: training items, or None to leave out the training checks (as for evaluation only).
        query, gallery: test items, or None to leave out the test checks.
        ims_per_batch: ``SOLVER.IMS_PER_BATCH``, over all processes.
        num_instance: ``DATALOADER.NUM_INSTANCE``.
        sampler: ``DATALOADER.SAMPLER_TRAIN``; None is taken for an identity sampler.
        max_rank: the largest k of the Rank-k that will be reported.
        world_size: number of processes that share a batch.
        train_prefix: ``<train_prefix>_<n>`` in the training items is the identity ``n`` of the test items. None where
            the two are numbered apart (as in MSMT17): then only identities that are literally equal are compared.
        compare_content: also look for query images that are in the gallery under another name (reads them all).

    Returns:
        The findings, errors first.
    """
    findings: list[Finding] = []
    paths = {item[0] for item in [*(train or ()), *(query or ()), *(gallery or ())]}
    missing = missing_files(sorted(paths))
    if missing:
        message = f"{len(missing)} of {len(paths)} image files do not exist: {name_some(missing)}"
        fix = "restore the files or take them out of the list"
        findings.append(Finding("error", "missing-files", message, fix))
    if train is not None:
        findings += _check_train(train, ims_per_batch, num_instance, sampler, world_size)
    if query is not None and gallery is not None:
        findings += _check_test(query, gallery, max_rank)
        findings += _check_copies(query, gallery, compare_content and not missing)
        if train is not None:
            findings += _check_overlap(train, [*query, *gallery], train_prefix)
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def _check_train(
    train: Sequence[Item], batch: int | None, instances: int | None, sampler: str | None, world_size: int
) -> Iterator[Finding]:
    """Everything FastReID's samplers and schedulers stumble over, most of it without a message."""
    if not train:
        yield Finding("error", "empty-train", "no training images", LOOK_AGAIN)
        return
    images_of = Counter(item[1] for item in train)
    if batch and len(train) < batch:
        message = f"{len(train)} training images are fewer than SOLVER.IMS_PER_BATCH {batch}: an epoch has no iteration"
        yield Finding("error", "fewer-images-than-batch", message, "lower SOLVER.IMS_PER_BATCH")
    if batch and instances and (sampler is None or sampler in IDENTITY_SAMPLERS):
        share = batch // world_size
        # the balanced sampler fills the batch of all processes in one round, the naive one that of one process
        needed = share // instances * (1 if sampler == "NaiveIdentitySampler" else world_size)
        if batch % world_size or share % instances or share < instances:
            message = f"SOLVER.IMS_PER_BATCH {batch} on {world_size} process(es) is not a multiple of "
            message += f"DATALOADER.NUM_INSTANCE {instances}: FastReID's sampler would loop for ever"
            fix = f"set SOLVER.IMS_PER_BATCH to a multiple of {instances * world_size}"
            yield Finding("error", "batch-not-divisible", message, fix)
        elif len(images_of) < needed:
            message = f"{len(images_of)} training identities, a batch needs {needed} (SOLVER.IMS_PER_BATCH {batch} / "
            message += f"DATALOADER.NUM_INSTANCE {instances}): FastReID's sampler would loop for ever"
            fix = f"set SOLVER.IMS_PER_BATCH to at most {len(images_of) * instances}, or raise DATALOADER.NUM_INSTANCE"
            yield Finding("error", "too-few-identities", message, fix)
    if len(images_of) == 1:
        message = f"all training images are of one identity, {next(iter(images_of))}: there is nothing to tell apart"
        yield Finding("error", "one-identity", message, "number different people differently")
    single = [pid for pid, count in images_of.items() if count == 1]
    if single:
        message = f"{len(single)} of {len(images_of)} training identities have a single image: {name_some(single)}"
        fix = "add images or leave these identities out: their positive pair is the image itself"
        yield Finding("warning", "single-image-identities", message, fix)


def _check_test(query: Sequence[Item], gallery: Sequence[Item], max_rank: int) -> Iterator[Finding]:
    """Whether the evaluation protocol can score the queries, and what is the cause if it cannot."""
    for name, items in (("query", query), ("gallery", gallery)):
        if not items:
            yield Finding("error", f"empty-{name}", f"no {name} images: there is nothing to evaluate", LOOK_AGAIN)
        odd = [item for item in items if not all(isinstance(number, int) for number in item[1:3])]
        if odd:
            message = f"{len(odd)} {name} items whose pid or camid is not an int, first {odd[0]}"
            yield Finding("error", "pid-not-int", message, "convert them by int(): FastReID drops other types")
    if not query or not gallery:
        return

    cameras_of = defaultdict(set)
    for _, pid, camid in gallery:
        cameras_of[pid].add(camid)
    unmatched = [item for item in query if not cameras_of.get(item[1], set()) - {item[2]}]
    if unmatched:
        yield _explain_unmatched(query, unmatched, cameras_of)
    cameras = {item[2] for item in [*query, *gallery]}
    if len(cameras) == 1:
        message = f"all query and gallery images have the same camera, {next(iter(cameras))}"
        yield Finding("warning", "single-camera", message, REAL_CAMERAS)

    junk, skipped = Counter(item[1:3] for item in gallery), set(unmatched)  # junk: same identity and camera
    shortest = len(gallery) - max((junk[item[1:3]] for item in query if item not in skipped), default=0)
    if shortest < max_rank:
        message = f"a query can be compared with only {shortest} of {len(gallery)} gallery images"
        message += f", too few for Rank-{max_rank}: FastReID's own evaluator fails"
        yield Finding("warning", "small-gallery", message, "add gallery images, or read only the ranks that exist")


def _explain_unmatched(query: Sequence[Item], unmatched: list[Item], cameras_of: dict[Any, set[Any]]) -> Finding:
    """The most repeated error of this field, with its cause."""
    absent = [item for item in unmatched if item[1] not in cameras_of]
    same = [item for item in unmatched if item[1] in cameras_of]
    causes = []
    if absent:
        lacking, present = name_some(sorted({item[1] for item in absent}, key=str)), name_some(list(cameras_of))
        causes.append(f"{len(absent)} have an identity ({lacking}) that the gallery ({present}) has not")
    if same:
        cause = "have their identity in the gallery only from their own camera, which the protocol leaves out"
        causes.append(f"{len(same)} {cause} (first {same[0][0]})")
    fix = "number the identities of query and gallery alike" if absent else REAL_CAMERAS
    message = f"{len(unmatched)} of {len(query)} query images have no valid gallery match: {'; '.join(causes)}"
    if len(unmatched) < len(query):
        return Finding("warning", "some-queries-unmatched", message, f"{fix}; FastReID skips these queries silently")
    message += ". FastReID's error for it is 'all query identities do not appear in gallery'"
    return Finding("error", "no-query-match", message, fix)


def _check_copies(query: Sequence[Item], gallery: Sequence[Item], compare_content: bool) -> Iterator[Finding]:
    """A query image that is its own gallery match is found by every model: the score says nothing."""
    listed = defaultdict(list)
    for item in gallery:
        listed[os.path.normpath(item[0])].append(item)
    pairs = [(item, other) for item in query for other in listed.get(os.path.normpath(item[0]), ())]
    counted = [item[0] for item, other in pairs if item[1:3] != other[1:3]]
    if counted:
        message = f"{len(counted)} query files are also in the gallery, with another pid or camid: {name_some(counted)}"
        yield Finding("warning", "query-in-gallery", message, "take them out of the gallery: each finds itself")
    if len(counted) < len(pairs):
        message = f"{len(pairs) - len(counted)} query files are also in the gallery, with the same pid and camid"
        yield Finding("note", "query-in-gallery-ignored", message, "nothing: the protocol leaves them out")
    if compare_content:
        names = {_digest(item[0]): item[0] for item in gallery}
        twins = [(item[0], names[digest]) for item in query if (digest := _digest(item[0])) in names]
        twins = [(path, other) for path, other in twins if os.path.normpath(path) != os.path.normpath(other)]
        if twins:
            named = name_some([f"{path} = {other}" for path, other in twins])
            message = f"{len(twins)} query images have the content of a gallery image of another name: {named}"
            yield Finding("warning", "query-copy-in-gallery", message, "take the copies out of the gallery")


def _digest(path: str) -> bytes:
    return hashlib.blake2b(Path(path).read_bytes()).digest()


def _check_overlap(train: Sequence[Item], test: Sequence[Item], prefix: str | None) -> Iterator[Finding]:
    """Re-ID is measured on identities that were not trained; files in both are worse still."""
    fix = "move them to one side: the score would measure memory"
    trained, files = {item[1] for item in train}, {os.path.normpath(item[0]) for item in train}
    shared = sorted({str(pid) for _, pid, _ in test if pid in trained or (prefix and f"{prefix}_{pid}" in trained)})
    if shared:
        message = f"{len(shared)} identities are in training and in test: {name_some(shared)}"
        yield Finding("warning", "identities-shared", message, fix)
    both = [item[0] for item in test if os.path.normpath(item[0]) in files]
    if both:
        message = f"{len(both)} test files are also training files: {name_some(both)}"
        yield Finding("warning", "files-shared", message, fix)


def check_images(paths: Iterable[str], *, workers: int = 2) -> list[Finding]:
    """Decode every image once, in ``workers`` threads (decoding releases Python's lock), with progress on stderr.

    Returns:
        One finding per kind of trouble with the number of files and the first of them, errors first.
    """
    unique = list(dict.fromkeys(paths))
    named = defaultdict(list)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = tqdm(pool.map(_look_at, unique), total=len(unique), unit="image")
        for path, trouble in zip(unique, results, strict=True):
            if trouble:
                named[trouble[0]].append(f"{path} ({trouble[1]})")
    return [
        Finding(level, code, f"{len(named[code])} of {len(unique)} images {text}: {name_some(named[code])}", fix)
        for code, (level, text, fix) in _IMAGE_TROUBLES.items()
        if named[code]
    ]


def _look_at(path: str) -> tuple[str, str] | None:
    """The worst trouble of one image as (code, detail), or None."""
    try:
        if os.path.getsize(path) == 0:
            return "empty-image", "0 bytes"
        with Image.open(path) as image:
            mode, size = image.mode, image.size
            image.load()  # open reads the header only: a truncated file shows here
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        return "unreadable-image", f"{type(error).__name__}: {' '.join(str(error).removesuffix(repr(path)).split())}"
    if mode not in READ_RIGHT:
        return "wrong-mode", f"mode {mode}"
    if min(size) < MIN_SIDE:
        return "tiny-image", f"{size[0]} x {size[1]}"
    return ("huge-image", f"{size[0]} x {size[1]}") if max(size) > MAX_SIDE else None


def summarise(findings: Sequence[Finding]) -> str:
    """The findings as text, one paragraph each, and their numbers in the last line."""
    lines = [f"{finding.level}: {finding.message} [{finding.code}]\n    fix: {finding.fix}" for finding in findings]
    count = Counter(finding.level for finding in findings)
    lines.append(", ".join(f"{count[level]} {level}{'' if count[level] == 1 else 's'}" for level in LEVELS))
    return "\n".join(lines)


def raise_on_errors(findings: Sequence[Finding], subject: str = "data set") -> None:
    """Raise :class:`InputError` for the first finding that is an error, with the number of the further ones."""
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: tools/check_dataset.py lists them)" if len(errors) > 1 else ""
        raise InputError(subject, f"{errors[0].message}; {errors[0].fix}{more}")
