"""The command line: ``switchablecompat COMMAND``, and each command as a script of tools/.

``parsers/`` defines the options, and loads neither torch nor FastReID; the module ``COMMAND.py`` here does the work.
"""

import importlib
import inspect
import sys
from pathlib import Path

import switchablecompat_command

from .. import __version__
from ..errors import InputError
from .parsers import COMMANDS
from .parsers.shared import Parser

USAGE = """usage: switchablecompat COMMAND [options]

Switchable networks with self-compatible features: train once, deploy several sizes, compare their features directly.

{commands}

example: switchablecompat train --config-file configs/quick/sfsc_tiny.yml
What a command takes: switchablecompat COMMAND --help. Configs that no folder here has are the package's own."""


# Scripts of tools/ whose names differ from their commands'.
SCRIPTS = {"train": "train_net", "grid": "cross_test", "check": "check_dataset", "manifest": "make_manifest",
           "export": "export_submodel", "profile": "profile_submodels"}  # fmt: skip


def typed(name: str) -> str:
    """What the user types to start a command, in the way that this process was started; spawned processes share it."""
    script = Path(sys.argv[0]).absolute()
    if script.parent.name == "tools":
        return f"python tools/{SCRIPTS.get(name, name)}.py".replace("-", "_")
    if script.name == "train_net.py":  # the project's own, as in a FastReID checkout
        entry = script.name if name == "train" else f"switchablecompat_command.py {name}"
        return f"python projects/SwitchableCompat/{entry}"
    return f"switchablecompat {name}"


def run(name: str = "", prog: str = "") -> int:
    """Read the command line, then load what the command needs and run it; returns the exit code.

    ``name`` is the command, by default the first argument, and ``prog`` what the user typed to start it, for its help.
    An unknown command, bad usage or input, or a missing FastReID or pyarrow, raises InputError.
    """
    arguments = sys.argv[1:]
    if not name:
        name, *arguments = arguments or ["--help"]
    if name in ("-h", "--help", "--version"):
        summaries = {key: (inspect.getdoc(command) or "").partition("\n")[0] for key, command in COMMANDS.items()}
        commands = "\n".join(f"  {key:<20}{summary}" for key, summary in summaries.items())
        print(__version__ if name == "--version" else USAGE.format(commands=commands))
        return 0
    if name not in COMMANDS:
        raise InputError("command line", f"must start with one of {', '.join(COMMANDS)} (see --help)", name)
    read = Parser(COMMANDS[name], prog or typed(name)).read(arguments)
    try:
        switchablecompat_command.load()
        work = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    except ImportError as error:
        if error.name not in ("fastreid", "pyarrow"):
            raise
        hint = "pyarrow is needed for galleries: pip install 'switchablecompat[deploy]'"
        raise InputError(hint if error.name == "pyarrow" else str(error)) from None
    return work.main(read) or 0
