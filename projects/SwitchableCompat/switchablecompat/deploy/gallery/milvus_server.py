"""A connection to Milvus, an embedded file (Milvus Lite) or a server. Every failure becomes one line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..packages import optional

SUFFIX = ".db"
TIMEOUT = 10.0  # seconds in which a server must accept a connection


@contextmanager
def connection(uri: str, *, create: bool = False, token: str = "") -> Iterator[Any]:
    """Yield a client of pymilvus. When the block ends, an embedded database is complete on disk and unlocked.

    ``uri`` is a file that ends in ``.db``, which ``create`` allows to be new, or ``http://host:19530``, where ``token``
    is ``user:password`` if the server requires it. Any failure of Milvus raises InputError.
    """
    client_module: Any = optional("pymilvus", "for --engine milvus", extra="milvus")
    embedded = "://" not in uri
    if embedded:
        optional("milvus_lite", "for a file of Milvus Lite", extra="milvus")
        if not uri.endswith(SUFFIX):
            raise InputError("--uri", f"must be a file that ends in {SUFFIX}, or http://host:19530", uri)
        if not create and not Path(uri).exists():
            raise InputError(uri, "must be an existing database of Milvus Lite", "no such file")
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    with milvus_errors(uri):
        try:
            client = client_module.MilvusClient(uri, token=token, timeout=TIMEOUT)
        except client_module.MilvusException as error:
            whole = "must be a whole database of Milvus Lite that no other process has open"
            rule = whole if embedded else "must be a running Milvus server"
            raise InputError(uri, rule, _first_line(error)) from None
        try:
            yield client
        finally:
            client.close()
            if embedded:
                optional("milvus_lite.server_manager", "").server_manager_instance.release_server(uri)


@contextmanager
def milvus_errors(uri: str) -> Iterator[None]:
    """Turn errors of pymilvus and gRPC into one line, and hide their own logs, which hold tracebacks."""
    exceptions: Any = optional("pymilvus", "for --engine milvus", extra="milvus")
    grpc: Any = optional("grpc", "for --engine milvus", extra="milvus")
    levels = {name: logging.getLogger(name).level for name in ("pymilvus", "milvus_lite", "grpc")}
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        yield
    except (exceptions.MilvusException, grpc.RpcError) as error:
        raise InputError(uri, "must be a Milvus database that does what it is asked", _first_line(error)) from None
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "message", "") or getattr(error, "details", lambda: "")() or error)
    return text.strip().split("\n")[0]
