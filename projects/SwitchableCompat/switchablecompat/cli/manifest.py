"""Make a manifest from folders of images."""

import argparse
import os
from pathlib import Path

from tabulate import tabulate

from ..choices import ONE_PER_CAMERA
from ..data.folder import Picture, find_pictures
from ..data.manifest import SPLITS, Row, write_manifest
from ..data.split import Choice, Draw, assign_splits
from ..errors import InputError, name_some
from ..files import refuse_unwritable_file
from . import typed


def test_rule(arguments: argparse.Namespace) -> Choice | Draw | None:
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
    if text is None or text == ONE_PER_CAMERA:
        return text
    if "=" in text:
        return Choice.parse(text, "--query")
    if not text.isdecimal() or int(text) < 1:
        raise InputError("--query", f"must be GROUP=VALUES, a number from 1 or {ONE_PER_CAMERA}", repr(text))
    return int(text)


def make_row(picture: Picture, split: str, folder: Path) -> Row:
    """One line of a manifest that lies in ``folder``."""
    path = os.path.relpath(picture.path, folder).replace(os.sep, "/")
    if path != path.strip():  # readers strip spaces around a field, so the path must not start with one
        path = f"./{path}"
    return Row(path, picture.pid, picture.camid, split)


def main(arguments: argparse.Namespace) -> None:
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
    write_manifest(rows, arguments.output)
    table = []
    for split in SPLITS:
        chosen = [row for row in rows if row.split == split]
        table.append([split, len(chosen), len({row.pid for row in chosen}), len({row.camid for row in chosen} - {""})])
    print(tabulate(table, headers=["split", "images", "identities", "cameras"]))
    for what, paths in (("did not match", found.unmatched), ("were excluded", found.excluded)):
        if paths:
            print(f"{len(paths)} images {what}: {name_some(paths)}")
    print(f"wrote {arguments.output}; look at it with: {typed('check')} --manifest {arguments.output}")
