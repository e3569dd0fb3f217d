"""Ray itself: joined where it runs, or started on this machine alone to try a cluster."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from glmcore.errors import GlmError
from glmcore.kernels.threads import default_threads
from glmcore.programs import WORKING_FOLDER

# Bytes for Ray's store of objects on each node: messages here are small, and the least that Ray takes is 75 MiB.
STORE_BYTES = 80 << 20
# Seconds in which an address has to take a connection, and Ray to answer there.
CONNECT_S, JOIN_S = 5, 30
# What Ray is told, before it is imported, of a cluster to try: it listens on this machine alone (for which Ray has the
# switch that keeps firewalls of other systems quiet), asks for a token, tells nobody of its use, and computes with the
# priority of other programs.
LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",
}

log = logging.getLogger("glmcore")


@contextmanager
def session(address: str, nodes: int = 1) -> Iterator[str]:
    """Be a part of the cluster at ``address`` ("auto", HOST:PORT) or of one made here of so many nodes ("local").

    To be entered before anything imports Ray. Yields the address.
    Errors: GlmError("cluster-unreachable", "usage"), ModuleNotFoundError without the extra.
    """
    with ExitStack() as stack:
        if address == "local":
            stack.enter_context(folder_of_local())
            address = stack.enter_context(local(nodes))
        ray = import_module("ray")
        stack.callback(ray.shutdown)
        join(ray, address)
        yield address


def join(ray: Any, address: str) -> None:
    """Errors: GlmError("cluster-unreachable")."""
    if address != "auto":
        check_listening(address)
    folder = os.getcwd()
    os.chdir(WORKING_FOLDER)  # Ray's workers, on every node, import what lies in the folder that the front began in
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        what = " ".join(str(error).split())
        hint = "ray start --head on one machine, ray start --address HOST:PORT on the others; or --address local"
        raise GlmError("cluster-unreachable", what, where=address, hint=hint) from error
    finally:
        os.chdir(folder)


def check_listening(address: str) -> None:
    """Ray itself would wait long where nobody is."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise GlmError("usage", f"{address!r} is no address", where="--address", hint="auto, local or HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        what = f"nobody answers there: {getattr(error, 'strerror', None) or error}"
        hint = "is Ray started? `ray start --head` prints its address"
        raise GlmError("cluster-unreachable", what, where=address, hint=hint) from error


@contextmanager
def folder_of_local() -> Iterator[None]:
    """A folder of our own for all that a local cluster writes, its token among that; gone afterwards.

    Its path is short: sockets lie in it, whose paths end at 107 characters.
    """
    folder = tempfile.mkdtemp(prefix="glm-")
    try:
        path = os.path.join(folder, "auth")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        os.environ.update(LOCAL, RAY_TMPDIR=folder, RAY_AUTH_TOKEN_PATH=path)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def local(nodes: int) -> Iterator[str]:
    """A cluster of several nodes on this machine, which share its cores; its address. They end with this process."""
    cluster = import_module("ray.cluster_utils").Cluster()
    threads = default_threads()
    try:
        for number in range(nodes):
            cores = max(1, threads // nodes + (number < threads % nodes))
            cluster.add_node(
                num_cpus=cores, object_store_memory=STORE_BYTES, include_dashboard=False, node_ip_address="127.0.0.1"
            )
        yield cluster.address
    finally:
        cluster.shutdown()
