"""Finds errors in a data set before the training instead of hours into it.

:func:`check_train` and :func:`check_test` read FastReID's items ``(path, pid, camid)`` without opening an image, so
they can run at every start. :func:`check_images` decodes every image. An ``error`` is what makes training or evaluation
fail, hang or be meaningless. With a ``warning``, results are doubtful. A ``note`` is only information.
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image
from tqdm import tqdm

from switchablecompat.config_rules import IDENTITY_SAMPLERS
from switchablecompat.errors import name_some
from switchablecompat.fastreid_shims.loading import READ_RIGHT

from .findings import THEMSELVES, Finding, Item, LabelNames, Level, errors_first
from .overlap import check_copies
from .paths import missing_files, unwritable_names

LOOK_AGAIN = "check the folder and the suffix of the images (FastReID's own data sets read .jpg only)"
REAL_CAMERAS = "give the real cameras, or use a manifest without the column camid"
MAX_RANK = 10  # the largest k of the reported Rank-k
MIN_SIDE, MAX_SIDE = 16, 4096  # pixels; re-ID crops are about 64 to 512 pixels high

# code -> (level, message about the images, fix).
_IMAGE_TROUBLES: dict[str, tuple[Level, str, str]] = {
    "empty-image": ("error", "are empty", "restore the files or take them out of the list"),
    "unreadable-image": ("error", "cannot be decoded", "restore the files or take them out of the list"),
    "wrong-mode": ("error", "are neither RGB nor greyscale", "convert them to RGB"),
    "tiny-image": ("warning", f"have a side below {MIN_SIDE} pixels", "leave out detections that are too small"),
    "huge-image": ("warning", f"have a side above {MAX_SIDE} pixels", "shrink them: loading will be slow"),
}


def check_train(
    items: Sequence[Item],
    *,
    ims_per_batch: int | None = None,
    num_instance: int | None = None,
    sampler: str | None = None,
    world_size: int = 1,
    names: LabelNames = THEMSELVES,
) -> list[Finding]:
    """Check the training items without opening an image.

    Args:
        items: of all training sets.
        ims_per_batch: ``SOLVER.IMS_PER_BATCH``, over all processes.
        num_instance: ``DATALOADER.NUM_INSTANCE``.
        sampler: ``DATALOADER.SAMPLER_TRAIN``; None means an identity sampler.
        world_size: number of processes that share a batch.
        names: names of identities in messages.

    Returns:
        The findings, errors first.
    """
    if not items:
        return [Finding("error", "empty-train", "no training images", LOOK_AGAIN)]
    images_of = Counter(item[1] for item in items)
    found = [*_check_files(items)]
    if ims_per_batch:
        found += _check_batch(len(items), len(images_of), ims_per_batch, num_instance, sampler, world_size)
    if len(images_of) == 1:
        message = f"all training images are of one identity, {names.pid(items[0][1])}: training needs two or more"
        found.append(Finding("error", "one-identity", message, "number different people differently"))
    found += _check_junk(items, "training")
    single = [pid for pid, count in images_of.items() if count == 1]
    if single:
        message = f"{len(single)} of {len(images_of)} training identities have a single image: "
        message += name_some(names.of_pids(single))
        fix = "add images or leave these identities out: their positive pair is the image itself"
        found.append(Finding("warning", "single-image-identities", message, fix))
    return errors_first(found)


def check_test(query: Sequence[Item], gallery: Sequence[Item], names: LabelNames = THEMSELVES) -> list[Finding]:
    """Check the test items without opening an image; ``names`` are those of their identities and cameras.

    Returns:
        The findings, errors first.
    """
    protocol = _check_protocol(query, gallery, names)
    return errors_first([*_check_files([*query, *gallery]), *protocol, *check_copies(query, gallery)])


def _check_files(items: Sequence[Item]) -> Iterator[Finding]:
    paths = sorted({item[0] for item in items})
    restore = "restore the files or take them out of the list"
    for code, wrong, what, fix in (
        ("missing-files", missing_files(paths), "image files do not exist", restore),
        ("names-not-utf8", unwritable_names(paths), "image files have names that are not UTF-8", "rename the files"),
    ):
        if wrong:
            yield Finding("error", code, f"{len(wrong)} of {len(paths)} {what}: {name_some(wrong)}", fix)


def _check_batch(
    images: int, identities: int, batch: int, instances: int | None, sampler: str | None, world_size: int
) -> Iterator[Finding]:
    """Check for everything on which FastReID's samplers and schedulers fail, mostly without a message."""
    if images < batch:
        message = f"{images} training images are fewer than SOLVER.IMS_PER_BATCH {batch}: an epoch has no iteration"
        yield Finding("error", "fewer-images-than-batch", message, "lower SOLVER.IMS_PER_BATCH")
    if not instances or not (sampler is None or sampler in IDENTITY_SAMPLERS):
        return
    share = batch // world_size
    # the balanced sampler fills the batch of all processes in one round, the naive one that of one process
    needed = share // instances * (1 if sampler == "NaiveIdentitySampler" else world_size)
    if batch % world_size or share % instances or share < instances:
        message = f"SOLVER.IMS_PER_BATCH {batch} on {world_size} process(es) is not a multiple of "
        message += f"DATALOADER.NUM_INSTANCE {instances}: FastReID's sampler would loop for ever"
        fix = f"set SOLVER.IMS_PER_BATCH to a multiple of {instances * world_size}"
        yield Finding("error", "batch-not-divisible", message, fix)
    elif identities < needed:
        message = f"{identities} training identities, a batch needs {needed} (SOLVER.IMS_PER_BATCH {batch} / "
        message += f"DATALOADER.NUM_INSTANCE {instances}): FastReID's sampler would loop for ever"
        fix = f"set SOLVER.IMS_PER_BATCH to at most {identities * instances}, or raise DATALOADER.NUM_INSTANCE"
        yield Finding("error", "too-few-identities", message, fix)


def _check_junk(items: Sequence[Item], what: str) -> Iterator[Finding]:
    """Check for Market-1501's junk in classes that do not know it."""
    junk = [item[0] for item in items if re.fullmatch(r"(.*_)?-1", str(item[1]))]
    if junk:
        message = f"{len(junk)} {what} images have the identity -1, which would count as a person: {name_some(junk)}"
        fix = "leave them out if they are junk, as in Market-1501 (a manifest does so)"
        yield Finding("warning", f"junk-in-{what}", message, fix)


def _check_protocol(query: Sequence[Item], gallery: Sequence[Item], names: LabelNames) -> Iterator[Finding]:
    """Check whether the protocol can score the queries, and find the cause if it cannot."""
    for name, items in (("query", query), ("gallery", gallery)):
        if not items:
            yield Finding("error", f"empty-{name}", f"no {name} images: there is nothing to evaluate", LOOK_AGAIN)
        odd = [item for item in items if not all(isinstance(number, int) for number in item[1:3])]
        if odd:
            message = f"{len(odd)} {name} items whose pid or camid is not an int, first {odd[0]}"
            yield Finding("error", "pid-not-int", message, "convert them by int(): FastReID drops other types")
    if not query or not gallery:
        return
    yield from _check_junk([*query, *gallery], "test")
    cameras_of = defaultdict(set)
    for _, pid, camid in gallery:
        cameras_of[pid].add(camid)
    unmatched = [item for item in query if not cameras_of.get(item[1], set()) - {item[2]}]
    if unmatched:
        yield _explain_unmatched(query, unmatched, cameras_of, names)
    cameras = {item[2] for item in [*query, *gallery]}
    if len(cameras) == 1:
        message = f"all query and gallery images have the same camera, {names.camid(next(iter(cameras)))}"
        yield Finding("warning", "single-camera", message, REAL_CAMERAS)

    junk, skipped = Counter(item[1:3] for item in gallery), set(unmatched)  # junk: same identity and camera
    shortest = len(gallery) - max((junk[item[1:3]] for item in query if item not in skipped), default=0)
    if shortest < MAX_RANK:
        message = f"a query can be compared with only {shortest} of {len(gallery)} gallery images"
        message += f", too few for Rank-{MAX_RANK}: FastReID's own evaluator fails"
        yield Finding("warning", "small-gallery", message, "add gallery images, or read only the ranks that exist")


def _explain_unmatched(
    query: Sequence[Item], unmatched: list[Item], cameras_of: dict[Any, set[Any]], names: LabelNames
) -> Finding:
    """Explain queries without a match, the most common error of this field."""
    absent = [item for item in unmatched if item[1] not in cameras_of]
    same = [item for item in unmatched if item[1] in cameras_of]
    causes = []
    if absent:
        lacking = name_some(names.of_pids(item[1] for item in absent))
        present = name_some([names.pid(pid) for pid in cameras_of])
        causes.append(f"{len(absent)} have an identity ({lacking}) that is not in the gallery ({present})")
    if same:
        cause = "have their identity in the gallery only from their own camera, which the protocol leaves out"
        causes.append(f"{len(same)} {cause} (first {same[0][0]}, camera {names.camid(same[0][2])})")
    fix = "number the identities of query and gallery alike" if absent else REAL_CAMERAS
    message = f"{len(unmatched)} of {len(query)} query images have no valid gallery match: {'; '.join(causes)}"
    if len(unmatched) < len(query):
        return Finding("warning", "some-queries-unmatched", message, f"{fix}; FastReID skips these queries silently")
    message += ". FastReID's error for it is 'all query identities do not appear in gallery'"
    return Finding("error", "no-query-match", message, fix)


def check_images(paths: Iterable[str], *, workers: int = 2, contents: dict[str, bytes] | None = None) -> list[Finding]:
    """Decode every image once, in ``workers`` threads (decoding releases Python's lock), with progress on stderr.

    ``contents`` is filled with the digest of the pixels of every image that can be decoded, by path.

    Returns:
        One finding per kind of problem, with the number of files and the first of them. Errors come first.
    """
    unique = list(dict.fromkeys(paths))
    named = defaultdict(list)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = tqdm(pool.map(_look_at, unique), total=len(unique), unit="image")
        for path, (trouble, content) in zip(unique, results, strict=True):
            if trouble:
                named[trouble[0]].append(f"{path} ({trouble[1]})")
            if contents is not None and content:
                contents[path] = content
    return [
        Finding(level, code, f"{len(named[code])} of {len(unique)} images {text}: {name_some(named[code])}", fix)
        for code, (level, text, fix) in _IMAGE_TROUBLES.items()
        if named[code]
    ]


def _look_at(path: str) -> tuple[tuple[str, str] | None, bytes]:
    """The worst problem of one image as (code, detail) or None, and a digest of its pixels (empty if unreadable)."""
    try:
        if os.path.getsize(path) == 0:
            return ("empty-image", "0 bytes"), b""
        with Image.open(path) as image:
            mode, size = image.mode, image.size
            image.load()  # open() reads only the header, so a truncated file fails here
            content = hashlib.blake2b(f"{mode} {size} ".encode() + image.tobytes(), digest_size=16).digest()
    except Exception as error:  # Pillow's decoders raise many types of errors on damaged files
        found = f"{type(error).__name__}: {' '.join(str(error).removesuffix(repr(path)).split())}"
        return ("unreadable-image", found), b""
    return _trouble_of(mode, size), content


def _trouble_of(mode: str, size: tuple[int, int]) -> tuple[str, str] | None:
    if mode not in READ_RIGHT:
        return "wrong-mode", f"mode {mode}"
    if min(size) < MIN_SIDE:
        return "tiny-image", f"{size[0]} x {size[1]}"
    return ("huge-image", f"{size[0]} x {size[1]}") if max(size) > MAX_SIDE else None
