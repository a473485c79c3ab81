"""Options that a command line gives although its other options leave no use for them: refused, never ignored.

Such an option has the default None, so that one that is given can be told from its default. A command's check first
refuses those that nothing would read, then fills in the defaults of the others.
"""

import argparse
from typing import Any

from ...errors import InputError


def refuse_unread(arguments: argparse.Namespace, rule: str, *names: str) -> None:
    """Reject these options (by their names in ``arguments``) if one is given; ``rule`` says what they are for."""
    for name in names:
        value = getattr(arguments, name, None)
        if value is None or value is False or value in ("", []):
            continue
        secret = name == "token"  # not for a log
        found = " ".join(map(str, value)) if isinstance(value, list) else value
        raise InputError(f"--{name.replace('_', '-')}", rule, None if value is True or secret else found)


def fill_in(arguments: argparse.Namespace, **defaults: Any) -> None:
    """Set options that are not given to their defaults."""
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def refuse_token(arguments: argparse.Namespace) -> None:
    """Reject a password for a database that is a file."""
    if "://" not in (arguments.uri or ""):
        refuse_unread(arguments, "is for a Milvus server, --uri http://host:19530", "token")
