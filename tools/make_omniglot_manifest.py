"""Turn the Omniglot archive into a small real data set for re-ID experiments on any machine.

Characters are the identities and the 20 drawers are the cameras: a drawing has to be found among drawings by other
hands. Whole alphabets are set aside for the test, so that no test character was seen in training; of the test
characters, some drawers' drawings are the queries and the others' the gallery.

The archives images_background.zip, images_evaluation.zip and images_background_small*.zip are in the repository
brendenlake/omniglot on GitHub (MIT licence; Lake, Salakhutdinov, Tenenbaum: Human-level concept learning through
probabilistic program induction, Science 2015). The drawings have one bit per pixel, which FastReID cannot read: they
are written as RGB.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import re
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

import startup
from switchablecompat.data.manifest import SPLITS, Row, write_manifest
from switchablecompat.errors import InputError, exit_on_input_error

EXAMPLE = """example:
  python tools/make_omniglot_manifest.py images_background_small1.zip datasets/omniglot
  python tools/check_dataset.py --manifest datasets/omniglot/manifest.csv --images
"""
LAYOUT = "images_*/<alphabet>/<characterNN>/<id>_<drawer>.png"
MEMBER = re.compile(r"[^/]+/(?P<alphabet>[^/]+)/(?P<character>character\d+)/(?P<name>\d+_(?P<drawer>\d+))\.png")
DAMAGED = (OSError, RuntimeError, zlib.error, zipfile.BadZipFile, Image.DecompressionBombError)
MAX_BYTES = 1 << 20  # a drawing has a few hundred; more is not Omniglot and may be a bomb


class Drawing(NamedTuple):
    """One picture of the archive."""

    member: str
    alphabet: str
    character: str
    drawer: str
    name: str


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLE)
    parser.add_argument("archive", help="the Omniglot zip")
    parser.add_argument("output", help="folder to create; gets images/ and manifest.csv")
    parser.add_argument("--test-alphabets", type=int, default=2, metavar="N", help="alphabets for the test (default 2)")
    parser.add_argument("--query-drawers", type=int, default=2, metavar="N", help="drawers of the queries (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="which alphabets and drawers these are (default 0)")
    return parser.parse_args(argv)


def list_drawings(archive: zipfile.ZipFile) -> list[Drawing]:
    """The drawings in the archive, sorted; refuses names that lead out of the folder, and foreign contents."""
    drawings = []
    for info in archive.infolist():
        name = info.filename
        if name.startswith(("/", "\\")) or "\\" in name or ":" in name or ".." in name.split("/"):
            raise InputError(archive.filename, "names in the archive must stay inside it", repr(name))
        found = MEMBER.fullmatch(name)
        if found and info.file_size <= MAX_BYTES:
            drawings.append(Drawing(name, found["alphabet"], found["character"], found["drawer"], found["name"]))
        elif found:
            raise InputError(archive.filename, f"a drawing has at most {MAX_BYTES} bytes", f"{name}: {info.file_size}")
    if not drawings:
        raise InputError(archive.filename, f"must have pictures named {LAYOUT}", f"{len(archive.infolist())} others")
    return sorted(drawings)


def assign_splits(drawings: Sequence[Drawing], test_alphabets: int, query_drawers: int, seed: int) -> list[Row]:
    """Give every drawing its path, identity, camera and split; equal arguments give equal rows."""
    alphabets = sorted({drawing.alphabet for drawing in drawings})
    drawers = sorted({drawing.drawer for drawing in drawings})
    for option, value, most in (
        ("--test-alphabets", test_alphabets, len(alphabets) - 1),
        ("--query-drawers", query_drawers, len(drawers) - 1),
    ):
        if not 1 <= value <= most:
            raise InputError(option, f"must be between 1 and {most} for this archive", value)
    rng = random.Random(seed)
    tested, asking = set(rng.sample(alphabets, test_alphabets)), set(rng.sample(drawers, query_drawers))
    rows = []
    for drawing in drawings:
        split = "train"
        if drawing.alphabet in tested:
            split = "query" if drawing.drawer in asking else "gallery"
        path = f"images/{drawing.alphabet}/{drawing.character}/{drawing.name}.png"
        rows.append(Row(path, f"{drawing.alphabet}/{drawing.character}", drawing.drawer, split))
    return rows


def unpack(archive: zipfile.ZipFile, drawings: Sequence[Drawing], rows: Sequence[Row], folder: Path) -> None:
    """Write every drawing as RGB PNG below ``folder``, and the manifest last."""
    for drawing, row in zip(drawings, tqdm(rows, unit="image"), strict=True):
        target = folder / row.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with Image.open(io.BytesIO(archive.read(drawing.member))) as image:
                image.convert("RGB").save(target)
        except DAMAGED as error:
            raise InputError(f"{archive.filename}: {drawing.member}", "must be a readable picture", error) from error
    write_manifest(rows, folder / "manifest.csv")


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    output = Path(os.path.abspath(arguments.output))
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(arguments.output, "must be a new or empty folder", "something there already")
    try:
        archive = zipfile.ZipFile(arguments.archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(arguments.archive, "must be a readable zip file", error) from error
    # everything goes to a neighbour folder first, so that an interrupted run leaves nothing under the final name
    partial = output.with_name(f"{output.name}.partial-{os.getpid()}")
    with archive:
        drawings = list_drawings(archive)
        rows = assign_splits(drawings, arguments.test_alphabets, arguments.query_drawers, arguments.seed)
        try:
            unpack(archive, drawings, rows, partial)
            if output.exists():
                output.rmdir()  # empty, see above; not every system renames onto a folder
            os.replace(partial, output)
        except OSError as error:
            raise InputError(output, "must be a folder that can be written", error) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    for split in SPLITS:
        chosen = [row for row in rows if row.split == split]
        characters, drawers = ({row[column] for row in chosen} for column in (1, 2))
        print(f"{split:8} {len(chosen):5} images {len(characters):4} characters {len(drawers):3} drawers")
    print(f"wrote {os.path.join(arguments.output, 'manifest.csv')}")
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
