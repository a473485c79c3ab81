"""Commands that look at data sets, and make them."""

from __future__ import annotations

import argparse

from ...choices import ONE_PER_CAMERA
from ...files import shipped
from .shared import Command, Parser, add_opts, bad_usage


@Command
def check(parser: Parser) -> None:
    """Say what is wrong with a data set, before training.

    Prints images, identities and cameras per split, and every finding with its fix. Exit code 0 if there is no error
    (warnings are allowed), 2 if there is one.

    examples:
      %(prog)s --config-file configs/Market1501/sfsc_R50.yml SOLVER.IMS_PER_BATCH 64
      %(prog)s --manifest my_images/manifest.csv --images
      %(prog)s --dataset Market1501 --root datasets --json check.json
    """
    source = parser.add_mutually_exclusive_group(required=True)
    config = "check what this config would train and test on"
    source.add_argument("--config-file", type=shipped, metavar="F", help=config)
    source.add_argument("--manifest", metavar="CSV", help="check the images of a manifest")
    source.add_argument("--dataset", metavar="NAME", help="check a data set by its name in FastReID's registry")
    parser.add_argument("--root", metavar="DIR", help="data set folder (default: $FASTREID_DATASETS, else datasets)")
    parser.add_argument("--images", action="store_true", help="also decode every image, and compare query with gallery")
    parser.add_argument("--json", metavar="FILE", help="also write counts and findings to this file")
    add_opts(parser, "config keys to override (with --config-file)")
    parser.checks.append(_check_opts)


def _check_opts(arguments: argparse.Namespace) -> None:
    if arguments.opts and not arguments.config_file:
        raise bad_usage(f"KEY VALUE needs --config-file, found {' '.join(arguments.opts)}")


@Command
def manifest(parser: Parser) -> None:
    r"""Make a manifest (path, pid, camid, split) from folders of images whose paths say what is on them.

    The pattern is a regular expression with named groups, searched for in each image's path below its folder:
      pid          the identity; camid: the camera (pid2, camid2...: further parts of it, joined by _)
      split        train, test, query or gallery; or a group of one of these names: what it matches belongs there
      type         kinds of identities that a drawn split divides alike
      others       for GROUP=VALUE below
    Several patterns are tried in order. Paths in the manifest are relative to it. Equal arguments give an equal file.

    examples:
      %(prog)s crops --pattern '(?P<pid>\d+)_c(?P<camid>\d+)' --test-share 0.5 --seed 0 --query one-per-camera --output crops/manifest.csv
      %(prog)s crops --pattern '(?P<split>train|query|gallery)/(?P<pid>\d+)_c(?P<camid>\d+)' --output crops/manifest.csv
      %(prog)s day1 day2 --pattern '(?P<site>\w+)/(?P<pid>\w+)/(?P<camid>\d+)_' --test site=north,south --query 2 --output manifest.csv
    """  # noqa: E501  (a command is one line)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folder of images, searched with its subfolders")
    parser.add_argument("--pattern", action="append", required=True, metavar="REGEX", help="see above; may be repeated")
    parser.add_argument("--output", required=True, metavar="CSV", help="the manifest")
    leave_out = "leave out what it is found in; may be repeated"
    parser.add_argument("--exclude", action="append", default=[], metavar="REGEX", help=leave_out)
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test-share", type=float, metavar="S", help="draw this share of the identities for the test")
    test.add_argument("--test", metavar="GROUP=VALUES", help="what is for the test: V1,V2... or @FILE, one a line")
    parser.add_argument("--seed", type=int, metavar="N", help="--test-share: which identities are drawn (default 0)")
    parser.add_argument("--draw-by", metavar="GROUP", help="--test-share: draw whole values of it (default pid)")
    rules = f"which test images are queries: GROUP=VALUES, a number (the first N of each identity), {ONE_PER_CAMERA}"
    parser.add_argument("--query", metavar="RULE", help=rules)
    parser.add_argument("--only", choices=("train", "test"), help="a manifest for training or for evaluation alone")
