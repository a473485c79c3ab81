"""The start of every command: sets what torch reads when it is loaded, and does nothing slow.

Importing ``switchablecompat`` loads torch and FastReID, which takes seconds. A command line that asks for help or is
wrong needs neither. So :func:`main` imports the package without them, and :func:`load` adds them once there is work.
"""

import importlib
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import NoReturn

postponed = False  # read by the package when it is imported


def prepare() -> None:
    """Let waiting threads sleep soon, let Ctrl-C during imports exit with one line and code 130, and find FastReID.

    (``errors`` handles Ctrl-C in this way later.) A project folder inside a FastReID checkout uses that FastReID.

    Threads that wait spin a little before they sleep: never to spin costs a quarter of a step on an idle machine, to
    spin long multiplies its time on a busy one. The user's own OMP_WAIT_POLICY and GOMP_SPINCOUNT stay as they are.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    sys.excepthook = _say_interrupted
    folder = Path(sys.argv[0]).absolute().parent  # of the path it was called by: the file may be a link
    if (folder / Path(__file__).name).is_file() and (folder.parent.parent / "fastreid" / "__init__.py").is_file():
        sys.path.insert(1, str(folder.parent.parent))  # behind this folder, before an installed FastReID


def _say_interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(130)


def load() -> None:
    """Load torch, FastReID and the rest of the package, which :func:`main` has postponed."""
    global postponed
    postponed = False
    package = sys.modules["switchablecompat"]
    if "load_config" not in vars(package):
        importlib.reload(package)


def main(name: str = "", prog: str = "") -> NoReturn:
    """Run a command, by default the one that the first argument names, and exit with its code.

    ``prog`` is what the user typed to start it, for the help of an entry point of your own.
    """
    global postponed
    postponed = True
    prepare()
    from switchablecompat.cli import run
    from switchablecompat.errors import exit_on_input_error

    exit_on_input_error(lambda: run(name, prog))
    raise AssertionError("exit_on_input_error exits")


if "__mp_main__" in sys.modules:  # a process started anew, like a loader's, gets FastReID's objects from a pickle
    import switchablecompat  # noqa: F401  (FastReID cannot be imported before it)

if __name__ == "__main__":  # python -m: import by name, since the package reads the module of this name
    from switchablecompat_command import main as start

    start()
