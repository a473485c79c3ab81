"""Commands that check and make data sets."""

import argparse

from ...choices import ONE_PER_CAMERA
from ...files import shipped
from .shared import Parser, add_opts, bad_usage


def check(parser: Parser) -> None:
    """Find errors in a data set before training.

    Prints the numbers of images, identities and cameras per split, and every finding with its fix. The exit code is 0
    without errors (warnings are allowed), else 2.

    examples:
      %(prog)s --config-file configs/Market1501/sfsc_R50.yml SOLVER.IMS_PER_BATCH 64
      %(prog)s --manifest my_images/manifest.csv --images
      %(prog)s --dataset Market1501 --root datasets --json check.json
    """
    source = parser.add_mutually_exclusive_group(required=True)
    config = "check the training and test sets of this config"
    source.add_argument("--config-file", type=shipped, metavar="F", help=config)
    source.add_argument("--manifest", metavar="CSV", help="check the images of a manifest")
    source.add_argument("--dataset", metavar="NAME", help="check a data set by its name in FastReID's registry")
    parser.add_argument("--root", metavar="DIR", help="data set folder (default: $FASTREID_DATASETS, else datasets)")
    parser.add_argument("--images", action="store_true", help="also decode every image, and look for duplicates")
    parser.add_argument("--json", metavar="FILE", help="also write counts and findings to this file")
    add_opts(parser, "config keys to override (with --config-file)")
    parser.checks.append(_check_opts)


def _check_opts(arguments: argparse.Namespace) -> None:
    if arguments.opts and not arguments.config_file:
        raise bad_usage(f"KEY VALUE needs --config-file, found {' '.join(arguments.opts)}")


def manifest(parser: Parser) -> None:
    r"""Make a manifest (path, pid, camid, split) from folders of images whose paths name identity and camera.

    The pattern is a regular expression with named groups. It is searched for in each image's path below its folder:
      pid          the identity; camid: the camera (pid2, camid2...: further parts, joined by _)
      split        train, test, query or gallery; or use one of these words as a group: images that match it go there
      type         the kind of identity; --test-share divides each kind in the same proportion
      others       any other group, for GROUP=VALUE below
    Several patterns are tried in order. Paths in the manifest are relative to it. Equal arguments give an equal file.

    examples:
      %(prog)s crops --pattern '(?P<pid>\d+)_c(?P<camid>\d+)' --test-share 0.5 --seed 0 --query one-per-camera --output crops/manifest.csv
      %(prog)s crops --pattern '(?P<split>train|query|gallery)/(?P<pid>\d+)_c(?P<camid>\d+)' --output crops/manifest.csv
      %(prog)s day1 day2 --pattern '(?P<site>\w+)/(?P<pid>\w+)/(?P<camid>\d+)_' --test site=north,south --query 2 --output manifest.csv
    """  # noqa: E501  (a command is one line)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folder of images, searched with its subfolders")
    parser.add_argument("--pattern", action="append", required=True, metavar="REGEX", help="see above; may be repeated")
    parser.add_argument("--output", required=True, metavar="CSV", help="manifest to write")
    leave_out = "leave out images whose path matches; may be repeated"
    parser.add_argument("--exclude", action="append", default=[], metavar="REGEX", help=leave_out)
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test-share", type=float, metavar="S", help="draw this share of the identities for the test")
    test.add_argument("--test", metavar="GROUP=VALUES", help="test images: V1,V2... or @FILE with one value per line")
    parser.add_argument("--seed", type=int, metavar="N", help="--test-share: seed of the draw (default 0)")
    parser.add_argument("--draw-by", metavar="GROUP", help="--test-share: draw all images of a value (default pid)")
    rules = f"which test images are queries: GROUP=VALUES, a number (the first N of each identity), {ONE_PER_CAMERA}"
    parser.add_argument("--query", metavar="RULE", help=rules)
    parser.add_argument("--only", choices=("train", "test"), help="a manifest for training or for evaluation alone")
