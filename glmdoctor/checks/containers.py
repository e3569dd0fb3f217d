"""The way of a card into containers: from inside, whether it was handed in; from the host, whether Docker could."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import Containers, KernelDriver
from glmdoctor.messages import text
from glmdoctor.readings.cards import container, kept_outside, wants_card

TITLE = text("The card in containers")
RUNTIME = "nvidia"


def handed_in(host: Machine) -> Iterator[Finding]:
    driver, kind = known(host.kernel_driver), container(host)
    if not driver.loaded:
        yield skipped(TITLE, text("The NVIDIA kernel module is not loaded."))
    elif kind:
        yield _kept_outside(host, kind, driver) if kept_outside(host) else _inside(kind, driver)
    else:
        yield _outside(maybe(host.containers))


def _inside(kind: str, driver: KernelDriver) -> Finding:
    nodes = [node.path for node in driver.nodes if node.kind != "missing"]
    return ok(TITLE, text("This {kind} container was given {nodes}.", kind=kind, nodes=", ".join(nodes)), nodes=nodes)


def _kept_outside(host: Machine, kind: str, driver: KernelDriver) -> Finding:
    wanted = wants_card(host)
    if wanted is False:
        return ok(TITLE, text("NVIDIA_VISIBLE_DEVICES asks for no card, and none was given to this {kind}.", kind=kind))
    return bad(
        # One that does not ask may be meant for the CPU, where models run as well.
        Status.FAIL if wanted else Status.WARN,
        "docker-no-gpu-runtime",
        text("The container was started without the card"),
        text(
            "The host's driver {version} runs, but this {kind} container has no device node /dev/nvidia*: start it "
            "with the card (--gpus all), for which the host needs the NVIDIA Container Toolkit.",
            version=driver.version or "?",
            kind=kind,
        ),
        container=kind,
        module=driver.version,
        wanted=wanted,
    )


def _outside(found: Containers | None) -> Finding:
    if found is None or not found.docker:
        return skipped(TITLE, text("There is no Docker here."))
    evidence = {"docker": found.docker, "toolkit": found.toolkit, "runtimes": found.runtimes, "cdi": list(found.cdi)}
    if RUNTIME in found.runtimes and not found.runtimes[RUNTIME]:
        detail = text("/etc/docker/daemon.json names the runtime nvidia, but its program is not there.")
    elif found.toolkit or RUNTIME in found.runtimes or found.cdi:
        return ok(TITLE, text("Docker can hand the card to containers (--gpus all)."), **evidence)
    else:
        detail = text(
            "Docker ({docker}) has neither the NVIDIA Container Toolkit nor a CDI specification: "
            "containers do not get the card.",
            docker=found.docker,
        )
    return bad(
        Status.WARN,  # programs outside of containers have it
        "docker-no-gpu-runtime",
        text("Docker cannot hand the card to containers"),
        detail,
        **evidence,
    )


CHECKS = (
    Check("driver.containers", TITLE, handed_in, problems=("docker-no-gpu-runtime",), needs=("os", "kernel_driver")),
)
