#!/usr/bin/env python
"""Install this project beside FastReID's other projects, in CHECKOUT/projects/SwitchableCompat, or uninstall it.

There it has its train_net.py, its configs and its package, and runs with the checkout's FastReID. Only the packages
that both need must be installed. No existing file is changed. A manifest beside the files lists what was installed.
Files that you have changed or added since are never deleted or replaced.
"""

import ast
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "projects" / "SwitchableCompat"
sys.path.insert(0, str(PROJECT))

import switchablecompat_command  # noqa: E402

switchablecompat_command.postponed = True  # works without FastReID and torch
from switchablecompat import __version__  # noqa: E402
from switchablecompat.cli.parsers.shared import Parser  # noqa: E402
from switchablecompat.errors import InputError, exit_on_input_error  # noqa: E402


def shipped() -> tuple[str, ...]:
    """The folders that come with the package, from setup.py, which cannot be imported here."""
    (text,) = re.findall(r"^SHIPPED = (\(.+\))$", (ROOT / "setup.py").read_text(), re.MULTILINE)
    return ast.literal_eval(text)


SOURCES = {
    "README.md": PROJECT / "README.md",
    "train_net.py": PROJECT / "train_net.py",
    "switchablecompat": PROJECT / "switchablecompat",
    "switchablecompat_command.py": PROJECT / "switchablecompat_command.py",
    **{folder: ROOT / folder for folder in shipped()},
}
MARKS = ("fastreid/__init__.py", "tools/train_net.py", "projects")
MANIFEST = "installed.json"


def entries(folder: Path) -> Iterator[Path]:
    """All files and links below a folder, except Python's caches. Links are not followed."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_dir():
            yield path
        elif path.name != "__pycache__":
            yield from entries(path)


def identity(path: Path) -> str:
    """Identity of a file or a link. Two with the same identity are interchangeable."""
    if path.is_symlink():
        return f"link:{os.readlink(path)}"
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def identities(folder: Path) -> dict[str, str]:
    """The identity of everything below a folder, except the manifest, by path."""
    found = {path.relative_to(folder).as_posix(): identity(path) for path in entries(folder)}
    found.pop(MANIFEST, None)
    return found


def check_checkout(checkout: Path) -> None:
    """Reject a folder that is not a checkout of FastReID."""
    missing = [mark for mark in MARKS if not (checkout / mark).exists()]
    if missing:
        raise InputError(checkout, f"must be a FastReID checkout, with {', '.join(MARKS)}", f"no {', '.join(missing)}")


def read_manifest(target: Path) -> dict[str, str]:
    """Path and identity of everything that was installed into ``target``.

    Raises:
        InputError: Nothing was installed, or this tool did not install the files there.
    """
    if not os.path.lexists(target):
        raise InputError(target, "must have been installed by this tool", "nothing")
    try:
        content = json.loads((target / MANIFEST).read_text())
        return dict(content["files"])
    except (OSError, ValueError, KeyError, TypeError):
        rule = f"must have been installed by this tool, which leaves {MANIFEST}; it is not touched"
        raise InputError(target, rule, "something else") from None


def check_unchanged(target: Path, files: dict[str, str]) -> None:
    """Reject removal if the user has changed or added files; the message names every file."""
    now = identities(target)
    found = [f"{name} ({'changed' if name in files else 'added'})" for name in now if now[name] != files.get(name)]
    if found:
        raise InputError(target, "must hold only what was installed; move these away first", ", ".join(found))


def fill(target: Path, link: bool) -> dict[str, str]:
    """Copy or link the project into a new folder, with its manifest; return the manifest's content."""
    target.mkdir()
    for name, source in SOURCES.items():
        (target / name).parent.mkdir(exist_ok=True)
        if link:
            (target / name).symlink_to(source, target_is_directory=source.is_dir())
        elif source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)
    files = identities(target)
    manifest = {"format": 1, "version": __version__, "from": str(ROOT), "files": files}
    (target / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return files


def install(target: Path, link: bool) -> None:
    """Install, or replace an unchanged installation. The folder appears when it is complete."""
    exists = os.path.lexists(target)
    if exists:
        check_unchanged(target, read_manifest(target))
    staging = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        files = fill(staging, link)
        if exists:
            shutil.rmtree(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    how = f"{len(files)} links to {ROOT}" if link else f"{len(files)} files copied from {ROOT}"
    print(f"SwitchableCompat {__version__} {'replaced' if exists else 'installed'} in {target}: {how}")
    print("no other file was changed; --uninstall takes it away")
    config = f"projects/{target.name}/configs/quick/sfsc_tiny.yml"
    print(f"run it in the checkout: python projects/{target.name}/train_net.py --config-file {config}")


def uninstall(target: Path) -> None:
    """Remove exactly the installed files."""
    files = read_manifest(target)
    check_unchanged(target, files)
    shutil.rmtree(target)
    print(f"SwitchableCompat taken away from {target}: {len(files)} files or links; no other file was changed")


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, epilog="example: python tools/install_into_fastreid.py ../fast-reid")
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT", help="folder of a FastReID checkout")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--copy", action="store_true", help="copy the files (default)")
    what.add_argument("--link", action="store_true", help="link to this repository; changes here apply there too")
    what.add_argument("--uninstall", action="store_true", help="remove the installed files")
    args = parser.parse_args()
    check_checkout(args.checkout)
    target = args.checkout.resolve() / "projects" / PROJECT.name
    try:
        uninstall(target) if args.uninstall else install(target, args.link)
    except OSError as error:
        rule = "must be writable, for --link with symbolic links"
        raise InputError(target.parent, rule, f"{error.strerror} ({error.filename})") from None


if __name__ == "__main__":
    exit_on_input_error(main)
