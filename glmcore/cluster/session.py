"""Ray itself: joined where it runs, or started on this machine alone to try a cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from glmcore.cluster import waiting
from glmcore.cluster.folder import own_folder
from glmcore.errors import GlmError
from glmcore.kernels.threads import default_threads
from glmcore.programs import WORKING_FOLDER
from glmcore.server.address import is_loopback

# Bytes for Ray's store of objects on each node: messages here are small, and the least that Ray takes is 75 MiB.
STORE_BYTES = 80 << 20
# Seconds in which an address has to take a connection, and to answer.
CONNECT_S = 5
# How a client of HTTP/2, as Ray speaks it, begins (RFC 9113, 3.4), and the type of the frame that answers.
GREETING, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), b"\x04"
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
        quieten(ray)
        stack.callback(ray.shutdown)
        stack.callback(waiting.end)
        waiting.begin()
        join(ray, address)
        yield address


def quieten(ray: Any) -> None:
    """Ray tells of nodes and workers that died on standard output, which is ours; who is lost we say ourselves."""
    ray._private.worker.print_to_stdstream = lambda data, **_: log.debug("Ray: %s", data)


def join(ray: Any, address: str) -> None:
    """Errors: GlmError("cluster-unreachable", "usage")."""
    if address == "auto":
        # Else Ray would join whatever cluster runs on this machine, be it another user's.
        os.environ["RAY_ADDRESS"] = last_address()
    host, port = parsed(os.environ["RAY_ADDRESS"] if address == "auto" else address)
    # Ray takes a loopback address for that by which others know this machine.
    check_listening(ray.util.get_node_ip_address() if is_loopback(host) else host, port)
    folder = os.getcwd()
    os.chdir(WORKING_FOLDER)  # Ray's workers, on every node, import what lies in the folder that the front began in
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise nobody(address, " ".join(str(error).split())) from error
    finally:
        os.chdir(folder)


def last_address() -> str:
    """RAY_ADDRESS, or that of the cluster that was started here last. Errors: GlmError("cluster-unreachable")."""
    found = os.environ.get("RAY_ADDRESS") or import_module("ray._private.services").find_bootstrap_address(None)
    if not found:
        raise nobody("auto", "no Ray was started on this machine")
    return str(found)


def parsed(address: str) -> tuple[str, int]:
    """Errors: GlmError("usage")."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise GlmError("usage", f"{address!r} is no address", where="--address", hint="auto, local or HOST:PORT")
    return host.strip("[]"), int(port)


def check_listening(host: str, port: int) -> None:
    """Ask for a server of Ray's kind: Ray itself would try for minutes where there is none. Errors: GlmError."""
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), CONNECT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                connection.sendall(GREETING)
                if connection.recv(9)[3:4] != SETTINGS:
                    raise nobody(where, "what answers there is not Ray")
    except OSError as error:
        raise nobody(where, f"nobody answers there: {error.strerror or error}") from error


def nobody(address: str, what: str) -> GlmError:
    hint = "`ray start --head` on one machine prints an address, which the others join; or --address local"
    return GlmError("cluster-unreachable", what, where=address, hint=hint)


@contextmanager
def folder_of_local() -> Iterator[None]:
    """A folder of our own for all that a local cluster writes, its token among that; gone afterwards."""
    with own_folder() as token:
        os.environ.update(LOCAL, RAY_TMPDIR=str(token.parent), RAY_AUTH_TOKEN_PATH=str(token))
        yield


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
