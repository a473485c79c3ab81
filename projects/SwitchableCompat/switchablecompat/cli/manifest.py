"""Make a manifest (path, pid, camid, split) from folders of images whose paths say what is on them.

The pattern is a regular expression with named groups, searched for in each image's path below its folder:
  pid          the identity; camid: the camera (pid2, camid2...: further parts of it, joined by _)
  split        train, test, query or gallery; or a group of one of these names: what it matches belongs there
  type         kinds of identities that a drawn split divides alike
  others       for GROUP=VALUE below
Several patterns are tried in order. Paths in the manifest are relative to it. Equal arguments give an equal file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

import startup
from switchablecompat.data.folder import Picture, find_pictures
from switchablecompat.data.manifest import SPLITS, Row, write_manifest
from switchablecompat.data.split import ONE_PER_CAMERA, Choice, Draw, assign_splits
from switchablecompat.errors import InputError, exit_on_input_error, name_some
from switchablecompat.files import refuse_unwritable_file

EXAMPLES = r"""examples:
  python tools/make_manifest.py crops --pattern '(?P<pid>\d+)_c(?P<camid>\d+)' --test-share 0.5 --seed 0 --query one-per-camera --output crops/manifest.csv
  python tools/make_manifest.py crops --pattern '(?P<split>train|query|gallery)/(?P<pid>\d+)_c(?P<camid>\d+)' --output crops/manifest.csv
  python tools/make_manifest.py day1 day2 --pattern '(?P<site>\w+)/(?P<pid>\w+)/(?P<camid>\d+)_' --test site=north,south --query 2 --output manifest.csv
"""  # noqa: E501  (a command is one line)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folder of images, searched with its subfolders")
    parser.add_argument("--pattern", action="append", required=True, metavar="REGEX", help="see above; may be repeated")
    parser.add_argument("--output", required=True, metavar="CSV", help="the manifest")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="REGEX", help="leave out what it is found in; may be repeated"
    )
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test-share", type=float, metavar="S", help="draw this share of the identities for the test")
    test.add_argument("--test", metavar="GROUP=VALUES", help="what is for the test: V1,V2... or @FILE, one a line")
    test_draw = parser.add_argument_group("with --test-share")
    test_draw.add_argument("--seed", type=int, metavar="N", help="which identities are drawn (default 0)")
    test_draw.add_argument("--draw-by", metavar="GROUP", help="draw whole values of this group (default pid)")
    parser.add_argument(
        "--query",
        metavar="RULE",
        help=f"which test images are queries: GROUP=VALUES, a number (the first N of each identity), {ONE_PER_CAMERA}",
    )
    parser.add_argument("--only", choices=("train", "test"), help="a manifest for training or for evaluation alone")
    return parser.parse_args(argv)


def test_rule(arguments: argparse.Namespace) -> Choice | Draw | None:
    """How the test images are told from those for training."""
    share = arguments.test_share
    for option, value in (("--seed", arguments.seed), ("--draw-by", arguments.draw_by)):
        if value is not None and share is None:
            raise InputError(option, "is read with --test-share only", value)
    if arguments.test is not None:
        return Choice.parse(arguments.test, "--test")
    if share is None:
        return None
    if not 0 < share < 1:
        raise InputError("--test-share", "must be between 0 and 1 (--only train or --only test for all)", share)
    return Draw(share, arguments.seed or 0, arguments.draw_by or "pid")


def query_rule(text: str | None) -> Choice | int | str | None:
    """How the queries are told from the gallery."""
    if text is None or text == ONE_PER_CAMERA:
        return text
    if "=" in text:
        return Choice.parse(text, "--query")
    if not text.isdecimal() or int(text) < 1:
        raise InputError("--query", f"must be GROUP=VALUES, a number from 1 or {ONE_PER_CAMERA}", repr(text))
    return int(text)


def make_row(picture: Picture, split: str, folder: Path) -> Row:
    """A line of the manifest in ``folder``."""
    path = os.path.relpath(picture.path, folder).replace(os.sep, "/")
    if path != path.strip():  # a manifest's fields have no space around them
        path = f"./{path}"
    return Row(path, picture.pid, picture.camid, split)


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    refuse_unwritable_file(arguments.output, "--output")
    test, query = test_rule(arguments), query_rule(arguments.query)
    found = find_pictures(arguments.folders, arguments.pattern, arguments.exclude)
    pictures = found.pictures
    without = [picture.path for picture in pictures if not picture.camid]
    if 0 < len(without) < len(pictures):
        rule = "must be found in every image or in none"
        raise InputError("--pattern: camid", rule, f"{len(without)} without: {name_some(without)}")
    splits = assign_splits(pictures, test, query, arguments.only)
    folder = Path(os.path.abspath(arguments.output)).parent
    rows = [make_row(picture, split, folder) for picture, split in zip(pictures, splits, strict=True) if split]
    try:
        write_manifest(rows, arguments.output)
    except OSError as error:
        raise InputError(arguments.output, "must be a file that can be written", error) from error
    table = []
    for split in SPLITS:
        chosen = [row for row in rows if row.split == split]
        table.append([split, len(chosen), len({row.pid for row in chosen}), len({row.camid for row in chosen} - {""})])
    print(tabulate(table, headers=["split", "images", "identities", "cameras"]))
    for what, paths in (("did not match", found.unmatched), ("were excluded", found.excluded)):
        if paths:
            print(f"{len(paths)} images {what}: {name_some(paths)}")
    print(f"wrote {arguments.output}; look at it with: python tools/check_dataset.py --manifest {arguments.output}")
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
