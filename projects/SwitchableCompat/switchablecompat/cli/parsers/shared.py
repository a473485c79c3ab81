"""A parser that reports bad usage in one line, and the options that several commands share."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from ...choices import FULL, PRECISIONS
from ...errors import InputError
from ...files import refuse_unwritable, shipped
from .unread import fill_in, refuse_unread

FORMATTER = partial(argparse.RawDescriptionHelpFormatter, max_help_position=32)  # room for long option names
CONFIG_HELP = "its config (default: the one stored in the checkpoint, or config.yaml beside it)"


class Parser(argparse.ArgumentParser):
    """The parser of a command line, with the options that a ``command`` adds, or with own ``options`` of ``argparse``.

    A command's docstring is its help, whose part from ``example`` on comes last; ``prog`` is what the user types.
    """

    def __init__(
        self, command: Callable[[Parser], None] | None = None, prog: str | None = None, **options: Any
    ) -> None:
        self.checks: list[Callable[[argparse.Namespace], None]] = []
        if command:
            text, mark, examples = (inspect.getdoc(command) or "").partition("\nexample")
            options |= {"description": text, "epilog": (mark + examples).strip()}
        super().__init__(prog, formatter_class=FORMATTER, **options)
        if command:
            command(self)
            self.usage = self._short_usage()

    def _short_usage(self) -> str | None:
        """The required arguments and ``[options]``; None if the command has subcommands."""
        parts, last = ["%(prog)s"], []
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return None
            if not action.option_strings:
                last.append(f"[{action.metavar} ...]" if action.dest == "opts" else f"{action.metavar} ...")
            elif action.required:
                parts.append(f"{action.option_strings[0]} {action.metavar or 'CHOICE'}")
        return " ".join([*parts, "[options]", *last])

    def read(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse a command line and run all checks. Bad usage raises InputError."""
        mixed = any(action.dest == "opts" and action.nargs == "*" for action in self._actions)
        arguments = self.parse_intermixed_args(argv) if mixed else self.parse_args(argv)
        for check in self.checks:
            check(arguments)
        return arguments

    def error(self, message: str) -> NoReturn:
        """Raise an error of one line instead of printing the whole usage."""
        raise bad_usage(message)


def bad_usage(message: str) -> InputError:
    return InputError("command line", f"{message} (see --help)")


def positive(text: str, least: int = 1) -> int:
    """Parse a whole number of at least ``least``."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, found {text!r}")
    return int(text)


def natural(text: str) -> int:
    return positive(text, least=0)


def limit(text: str) -> float:
    """Parse a number that is neither negative nor NaN."""
    try:
        accepted = float(text) >= 0
    except ValueError:
        accepted = False
    if not accepted:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, found {text!r}")
    return float(text)


def share(text: str) -> float:
    """Parse a number above 0 and below 1."""
    try:
        accepted = 0 < float(text) < 1
    except ValueError:
        accepted = False
    if not accepted:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and below 1, found {text!r}")
    return float(text)


def add_config(parser: Parser, *, help: str = CONFIG_HELP, **options: Any) -> None:
    """Add a config, given by its path or by the name of one that came with the package."""
    parser.add_argument("--config-file", default="", type=shipped, metavar="F", help=help, **options)


def add_trained(parser: Parser) -> None:
    parser.add_argument("--weights", required=True, metavar="W", help="checkpoint of the trained model")
    add_config(parser)


def add_opts(parser: Parser, help: str = "config keys to override") -> None:
    """Add config keys to override. They may stand between options."""
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help=help)


def add_output(parser: Parser, help: str) -> None:
    """Add the output folder. It is rejected before any work if it cannot be written."""
    parser.add_argument("--output", required=True, metavar="DIR", help=help)
    parser.checks.append(lambda arguments: refuse_unwritable(arguments.output, "--output"))


def add_models(parser: Parser) -> None:
    """Add the options for a family of sub-models: one switchable checkpoint, runs of one width each, or a mix."""
    parser.add_argument("--weights", metavar="W", help="checkpoint of a switchable model; all its widths take part")
    add_config(parser)
    several: dict[str, Any] = {"action": "append", "default": []}
    run = "sub-model of this width from a training run (model_final.pth there); may be repeated"
    parser.add_argument("--model", **several, metavar="WIDTH=RUN_DIR", help=run)
    add_output(parser, "folder for the files")
    parser.add_argument("--dataset", default="", metavar="NAME", help="test set (default: that of the first config)")
    parser.add_argument("--method", default="", metavar="NAME", help="name to record (default: from the configs)")
    cells = "widths of a cell that the method does not define, printed '-'; may be repeated"
    parser.add_argument("--undefined", **several, metavar="QUERY,GALLERY", help=cells)
    parser.add_argument("--diagonal-only", action="store_true", help="self-tests only, for models that share no space")
    add_opts(parser, "config keys to override in every config")
    parser.checks.append(_check_models)


def _check_models(arguments: argparse.Namespace) -> None:
    if arguments.config_file and not arguments.weights:
        raise bad_usage("--config-file needs --weights")
    if not arguments.weights and not arguments.model:
        raise bad_usage("--weights or --model must be given")


def add_encoder(parser: Parser) -> None:
    """Add the options for a sub-model, exported or from a trained run, and for how it reads images."""
    parser.add_argument("--model", metavar="PATH", help="exported sub-model: its folder, model file or model.json")
    parser.add_argument("--weights", metavar="W", help="instead of --model: checkpoint of a switchable run")
    parser.add_argument("--width", type=float, metavar="X", help="with --weights: width of the sub-model, such as 0.25")
    add_config(parser)
    parser.add_argument("--device", help="with --weights: device (default: cuda if there is a GPU, else cpu)")
    computing = "precision of a checkpoint's computations (default float32; float16 on a GPU only)"
    parser.add_argument("--precision", choices=PRECISIONS, help=computing)
    parser.add_argument("--batch-size", type=positive, metavar="N", help="images per batch (default 64)")
    parser.add_argument("--workers", type=positive, metavar="N", help="threads that read images (default 2)")


def add_images(parser: Parser) -> None:
    """Add the options for images: files and folders, or a data set."""
    parser.add_argument("--images", nargs="+", metavar="PATH", help="image files, or folders (with their subfolders)")
    parser.add_argument("--dataset", metavar="NAME", help="instead of images: FastReID data set in $FASTREID_DATASETS")
    parser.add_argument("--manifest", default="", metavar="CSV", help="manifest of the data set ManifestReID")


def check_encoding(arguments: argparse.Namespace) -> None:
    """Reject a command line that names no images or no sub-model, or options of others; fill in the defaults."""
    if bool(arguments.images) == bool(arguments.dataset):
        raise bad_usage("must have --images or --dataset")
    of_run = (arguments.weights, arguments.width)
    exported = arguments.model and of_run == (None, None) and not arguments.config_file
    if not exported and (arguments.model or None in of_run):
        raise bad_usage("must have --model, or --weights with --width")
    if exported:
        refuse_unread(arguments, "is for --weights; exported files compute on the CPU", "device")
    if arguments.dataset != "ManifestReID":
        refuse_unread(arguments, "is for --dataset ManifestReID", "manifest")
    fill_in(arguments, precision=FULL, batch_size=64, workers=2)
