"""The built-in data set: generated pedestrians in Market-1501's layout, written on first use.

``generate`` writes ``Market-1501-v15.09.15/{bounding_box_train,query,bounding_box_test}`` with Market-1501 file names,
so FastReID's ``Market1501`` can also read the folder. Training and test share the cameras but no identity.

Every picture is drawn from a generator seeded by (seed, split, identity, camera, index): the bytes depend neither on
the order nor on the machine, only on the spec, ``GENERATOR_VERSION`` and the installed Pillow's encoder.
"""

import dataclasses
import hashlib
import itertools
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.market1501 import Market1501
from PIL import Image
from tqdm import tqdm

from switchablecompat.data.findings import Item
from switchablecompat.data.pedestrian import draw_crop, sample_camera, sample_identity
from switchablecompat.errors import InputError

logger = logging.getLogger(__name__)

GENERATOR_VERSION = 2  # increase it whenever the same spec gives different pictures
LAYOUT = "Market-1501-v15.09.15"
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
_SPLIT_SEED = {TRAIN: 0, QUERY: 1, GALLERY: 1}  # query and gallery show the same people
_CAMERA_SEED = 2
_JPEG_QUALITY = 92

Job = tuple[str, int, int, int]  # folder, pid (from 1), camera (from 0), index of the picture within (pid, camera)


@dataclass(frozen=True)
class SyntheticSpec:
    """Specification of a generated data set. Different specs have different folders.

    Picture j of identity p is taken by camera (p + j) mod ``cameras``.
    """

    name: str = "full"  # part of the folder's name
    seed: int = 0
    train_ids: int = 300  # identities, numbered from 1
    test_ids: int = 200  # identities of query and gallery; numbers continue
    cameras: int = 6
    train_per_id: int = 12  # pictures per identity
    queries_per_id: int = 3  # each from a different camera
    gallery_per_id: int = 9  # at least 2, so that each query has a match in another camera
    height: int = 64  # pixels
    width: int = 32

    def __post_init__(self) -> None:
        for key, low, high in (
            ("seed", 0, 2**32 - 1), ("train_ids", 1, 1500), ("test_ids", 1, 1501 - self.train_ids), ("cameras", 2, 6),
            ("train_per_id", 1, 600), ("queries_per_id", 1, self.cameras), ("gallery_per_id", 2, 600),
            ("height", 16, 256), ("width", 8, 128),
        ):  # fmt: skip
            value = getattr(self, key)
            if not low <= value <= high:
                raise InputError(f"SyntheticSpec.{key}", f"must lie between {low} and {high}", value)
        if not re.fullmatch(r"[a-z0-9-]+", self.name):
            raise InputError("SyntheticSpec.name", "must consist of a-z, 0-9 and -", repr(self.name))

    def record(self) -> dict[str, Any]:
        """Content of ``spec.json``."""
        return {"generator": GENERATOR_VERSION, "spec": dataclasses.asdict(self)}

    def folder_name(self) -> str:
        """``synthetic-reid-<name>-<first 8 hex digits of the digest of the record>``."""
        digest = hashlib.sha256(json.dumps(self.record(), sort_keys=True).encode()).hexdigest()
        return f"synthetic-reid-{self.name}-{digest[:8]}"

    def jobs(self) -> Iterator[Job]:
        """All pictures to draw, in the order of splits and identities."""
        last = self.train_ids + self.test_ids
        trained, tested = range(1, self.train_ids + 1), range(self.train_ids + 1, last + 1)
        for folder, pids, first, count in (
            (TRAIN, trained, 0, self.train_per_id),
            (QUERY, tested, 0, self.queries_per_id),
            (GALLERY, tested, self.cameras, self.gallery_per_id),  # queries own the first index
        ):
            for pid, turn in itertools.product(pids, range(first, first + count)):
                yield folder, pid, (pid + turn) % self.cameras, turn // self.cameras


def generate(root: Path | str, spec: SyntheticSpec) -> Path:
    """Write the data set below ``root``, unless it is there already.

    The data set is written to a hidden folder beside it, which is renamed when complete. Several processes may call
    this function at once.

    Returns:
        ``<root>/synthetic-reid-<name>-<digest>``, which contains ``Market-1501-v15.09.15``.

    Raises:
        InputError: ``root`` cannot be written to, or the folder exists without this complete data set.
    """
    root = Path(root)
    final = root / spec.folder_name()
    if final.exists():
        _check_complete(final, spec)
        return final
    try:
        root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=root))
    except OSError as error:
        raise InputError(root, "must be a folder that can be written to", error) from error
    try:
        _write_images(scratch / LAYOUT, spec)
        (scratch / "spec.json").write_text(json.dumps(spec.record(), indent=2) + "\n")
        scratch.chmod(0o755)  # mkdtemp's mode 0700 would exclude other users of a shared folder
        try:
            scratch.rename(final)
        except OSError:
            if not final.exists():
                raise
            _check_complete(final, spec)  # another process was faster and wrote the same data set
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return final


def _check_complete(folder: Path, spec: SyntheticSpec) -> None:
    """Reject a folder that was changed after generation, because its results would not be comparable."""
    try:
        record = json.loads((folder / "spec.json").read_text())
    except (OSError, ValueError) as error:
        rule = "must be readable; delete the data set's folder to generate it again"
        raise InputError(folder / "spec.json", rule, error) from error
    if record != spec.record():
        raise InputError(folder / "spec.json", f"must equal {spec.record()}; delete the data set's folder", record)
    for split in (TRAIN, QUERY, GALLERY):
        expected = sum(job[0] == split for job in spec.jobs())
        found = sum(1 for _ in (folder / LAYOUT / split).glob("*.jpg"))
        if found != expected:
            rule = f"must hold {expected} pictures; delete the data set's folder to generate it again"
            raise InputError(folder / LAYOUT / split, rule, found)


def _write_images(layout: Path, spec: SyntheticSpec) -> None:
    """Write all pictures of ``spec``, with a progress bar, and log the rate."""
    for split in (TRAIN, QUERY, GALLERY):
        (layout / split).mkdir(parents=True)
    jobs, start = list(spec.jobs()), time.perf_counter()
    for job in tqdm(jobs, desc=f"Generating {spec.name} pedestrians", unit="image"):
        render(layout, spec, job)
    seconds = time.perf_counter() - start
    logger.info("Generated %d images in %.1f s: %.0f images/s", len(jobs), seconds, len(jobs) / seconds)


def draw(spec: SyntheticSpec, job: Job) -> np.ndarray:
    """Draw one picture, [height, width, 3] uint8, RGB."""
    folder, pid, camera, index = job
    split = _SPLIT_SEED[folder]
    identity = sample_identity(np.random.default_rng((spec.seed, split, pid)))
    place = sample_camera(np.random.default_rng((spec.seed, _CAMERA_SEED, camera)), camera)
    # from 1: numpy pads short seeds with zeros, and camera 0 would share the identity's own stream
    rng = np.random.default_rng((spec.seed, split, pid, camera + 1, index))
    return draw_crop(identity, place, rng, spec.height, spec.width)


def render(layout: Path, spec: SyntheticSpec, job: Job) -> None:
    """Draw and write one picture."""
    folder, pid, camera, index = job
    name = f"{pid:04d}_c{camera + 1}s1_{151 + 25 * index:06d}_{index + 1:02d}.jpg"
    Image.fromarray(draw(spec, job)).save(layout / folder / name, quality=_JPEG_QUALITY, subsampling=0)


@DATASET_REGISTRY.register()
class SyntheticReID(Market1501):
    """Generated pedestrians: 300 training and 200 test identities, 6 cameras, pictures of 64 x 32 pixels."""

    dataset_name = "synthetic_reid"
    spec: ClassVar[SyntheticSpec] = SyntheticSpec()

    def __init__(self, root: str = "datasets", **kwargs: Any) -> None:
        super().__init__(root=str(generate(root, self.spec)), **kwargs)

    def process_dir(self, dir_path: str, is_train: bool = True) -> list[Item]:
        """(path, identity, camera) of each picture, sorted, because the order of files differs between machines."""
        items = []
        for path in sorted(Path(dir_path).glob("*.jpg")):
            pid, camera = int(path.name[:4]), int(path.name[6]) - 1  # 0012_c3s1_000151_01.jpg, see render
            # FastReID uses such names to number identities over several training sets
            named = (f"{self.dataset_name}_{pid}", f"{self.dataset_name}_{camera}")
            items.append((str(path), *(named if is_train else (pid, camera))))
        return items


@DATASET_REGISTRY.register()
class SyntheticReIDTiny(SyntheticReID):
    """For tests: 16 training and 12 test identities, 3 cameras, generated in less than two seconds."""

    dataset_name = "synthetic_reid_tiny"
    spec: ClassVar[SyntheticSpec] = SyntheticSpec(
        name="tiny", train_ids=16, test_ids=12, cameras=3, train_per_id=6, queries_per_id=2, gallery_per_id=4
    )


@DATASET_REGISTRY.register()
class SyntheticReIDDev(SyntheticReID):
    """For tuning: other people and cameras than SyntheticReID, 200 training and 800 test identities.

    None of them is in SyntheticReID, and a grid of 800 identities varies little from run to run.
    """

    dataset_name = "synthetic_reid_dev"
    spec: ClassVar[SyntheticSpec] = SyntheticSpec(name="dev", seed=1, train_ids=200, test_ids=800)


@DATASET_REGISTRY.register()
class SyntheticReIDStart(SyntheticReID):
    """For pretraining: 1,000 people, in front of cameras that neither SyntheticReID nor SyntheticReIDDev has."""

    dataset_name = "synthetic_reid_start"
    spec: ClassVar[SyntheticSpec] = SyntheticSpec(name="start", seed=2, train_ids=1000, test_ids=100)
