"""The settings by which models are fetched: do they hinder or contradict each other? No network is used."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.findings import Finding, Status, Variables
from glmdoctor.host.facts import Hub
from glmdoctor.messages import Text, text
from glmdoctor.readings.versions import numbers

TITLE = text("Settings for fetching models")
OWN = text("Requests to this machine's own names")
LINKS = text("Symbolic links for the hub's cache")
COPIES = (0, 10)  # huggingface_hub that copies where it may not link
# What lets Python's HTTP libraries speak SOCKS: requests' and httpx's.
SOCKS = ("pysocks", "socksio")

Fault = tuple[Text, tuple[str, ...]]  # what is wrong, and the variables that say so


def settings(host: Machine) -> Iterator[Finding]:
    hub = known(host.hub)
    faults = [*_endpoint(hub), *_proxies(host, hub), *_offline(hub)]
    evidence = {"endpoint": hub.endpoint, "offline": list(hub.offline), "proxies": dict(hub.proxies)}
    for detail, variables in faults:
        title = text("A setting keeps the hub out of reach")
        yield bad(
            Status.WARN, "hub-unreachable", title, detail, Variables(variables), variables=list(variables), **evidence
        )
    if faults:
        return
    if hub.offline:
        detail = text("{names} forbids the network; only the cache is used.", names=", ".join(hub.offline))
    else:
        detail = text("Nothing in the way; whether the hub answers is not tried.")
    yield ok(TITLE, detail, **evidence)


def _endpoint(hub: Hub) -> Iterator[Fault]:
    if hub.endpoint is None:
        return
    try:
        parts = urlsplit(hub.endpoint)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or hub.endpoint != hub.endpoint.strip():
        what = text("HF_ENDPOINT is no address: write for example {example}", example="https://hf-mirror.com")
        yield what, ("HF_ENDPOINT",)


def _proxies(host: Machine, hub: Hub) -> Iterator[Fault]:
    python = maybe(host.interpreter)
    for name, shown in hub.proxies.items():
        if not shown:
            yield text("{name} is no address of a proxy.", name=name), (name,)
        elif name in hub.silent:
            yield text("{name} is {proxy}, and nothing listens there on this machine.", name=name, proxy=shown), (name,)
        elif shown.startswith("socks") and python and not any(package in python.packages for package in SOCKS):
            what = text(
                "{name} is {proxy}, and this Python has neither PySocks nor socksio to use it.", name=name, proxy=shown
            )
            yield what, (name,)


def _offline(hub: Hub) -> Iterator[Fault]:
    if hub.offline and hub.cached is False:
        what = text(
            "{names} forbids the network, and the model is not in the hub's cache here.", names=", ".join(hub.offline)
        )
        yield what, hub.offline


def localhost(host: Machine) -> Iterator[Finding]:
    """A program that asks itself, as a web demo does when it starts, must not be sent to a proxy."""
    hub = known(host.hub)
    names = hub.own_names_through_proxy
    if not names:
        yield ok(OWN, text("No proxy is asked for them."))
        return
    yield bad(
        Status.WARN,
        "localhost-through-proxy",
        text("A proxy is asked for this machine itself"),
        text("A proxy is set, and no_proxy lacks {names}: web demos do not reach themselves.", names=", ".join(names)),
        names=list(names),
        proxies=dict(hub.proxies),
    )


def links(host: Machine) -> Iterator[Finding]:
    """Before 0.10 huggingface_hub gave up where it may not link; it copies since (its pull request 1067)."""
    allowed, packages = known(host.links), known(host.interpreter).packages
    version = packages.get("huggingface-hub")
    if version is None:
        yield skipped(LINKS, text("huggingface_hub is not installed in the examined interpreter."))
    elif allowed.developer_mode or allowed.privilege:
        yield ok(LINKS, text("This user may make symbolic links."))
    elif numbers(version) >= COPIES:
        yield ok(LINKS, text("None may be made; huggingface_hub {version} copies instead.", version=version))
    else:
        yield bad(
            Status.WARN,
            "windows-symlink-privilege",
            text("Windows refuses symbolic links"),
            text(
                "Developer mode is off and this session lacks the privilege; huggingface_hub {version} cannot do "
                "without links (WinError 1314).",
                version=version,
            ),
            version=version,
        )


CHECKS = (
    Check("hub.links", LINKS, links, problems=("windows-symlink-privilege",), needs=("links", "interpreter")),
    Check("hub.settings", TITLE, settings, problems=("hub-unreachable",), needs=("hub",)),
    Check("hub.localhost", OWN, localhost, problems=("localhost-through-proxy",), needs=("hub",)),
)
