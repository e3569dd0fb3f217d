"""The card for what runs in containers."""

from __future__ import annotations

from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies.answer import Answer, Commands, Shell, by_host, root
from glmdoctor.remedies.distribution import install

TOOLKIT_IN_CONTAINERS = dict.fromkeys(("debian", "fedora", "suse", "arch"), "nvidia-container-toolkit")
START_WITH_CARD = {
    "docker": "docker run --gpus all …",
    "podman": "podman run --device nvidia.com/gpu=all …",
}


def card_into_containers(host: Machine) -> Commands:
    """From inside, how the container has to be started; on the host, what enables Docker for it."""
    os, found = maybe(host.os), maybe(host.containers)
    if os and os.container:
        return (Shell(START_WITH_CARD[os.container]),) if os.container in START_WITH_CARD else ()
    lacking = () if found and found.toolkit else install(host, TOOLKIT_IN_CONTAINERS)
    return (*lacking, *root("nvidia-ctk runtime configure --runtime=docker", "systemctl restart docker"))


ANSWERS = {"docker-no-gpu-runtime": Answer(advice=by_host(card_into_containers))}
