"""Where every command starts: what must be said before torch is loaded, and nothing that takes long.

Importing ``switchablecompat`` loads torch and FastReID, which takes seconds. A command line that asks for help, or is
wrong, needs neither, so :func:`main` imports the package without them, and :func:`load` adds them once there is work.
"""

import importlib
import os
import sys
from types import TracebackType
from typing import NoReturn

postponed = False  # read by the package when it is imported


def prepare() -> None:
    """Let waiting threads sleep, and Ctrl-C end the imports with one line and 130, as ``errors`` does it later.

    Threads that spin cost a step beside other work a multiple of its time, and save none of it alone. OMP_WAIT_POLICY
    and GOMP_SPINCOUNT of the user are left as they are.
    """
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.excepthook = _say_interrupted


def _say_interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(130)


def load() -> None:
    """Load what was postponed."""
    global postponed
    postponed = False
    package = sys.modules["switchablecompat"]
    if "load_config" not in vars(package):
        importlib.reload(package)


def main(name: str = "", prog: str = "") -> NoReturn:
    """Run a command, and exit with its code.

    Args:
        name: which one; by default the first argument says it.
        prog: what the user has typed to start it, for its help.
    """
    global postponed
    postponed = True
    prepare()
    from switchablecompat.cli import run
    from switchablecompat.errors import exit_on_input_error

    exit_on_input_error(lambda: run(name, prog))
    raise AssertionError("exit_on_input_error exits")


if __name__ == "__main__":  # python -m switchablecompat_command: the package looks at the module of this name
    from switchablecompat_command import main as start

    start()
