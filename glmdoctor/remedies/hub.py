"""The hub, its caches and the proxies on the way."""

from __future__ import annotations

from glmdoctor.findings import Finding, Variables
from glmdoctor.readings.machine import Machine
from glmdoctor.remedies.answer import Answer, Beyond, Commands, shell, words


def hub(finding: Finding, host: Machine) -> Commands:
    """The variables that are in the way; those of proxies are read in small letters too."""
    names = finding.payload.names if isinstance(finding.payload, Variables) else ()
    spellings = [(name, name.lower()) if "PROXY" in name else (name,) for name in names]
    return tuple(words("unset", *both) for both in spellings)


ANSWERS = {
    "hub-unreachable": Answer(advice=hub),
    "hf-cache-not-writable": Answer(
        advice=shell(
            'export HF_MODULES_CACHE="$HOME/.cache/huggingface/modules"',
            'export XDG_CACHE_HOME="/var/tmp/cache-$(id -un)"',
        )
    ),
    "localhost-through-proxy": Answer(
        advice=shell('export no_proxy="${no_proxy:+$no_proxy,}localhost,127.0.0.1,::1"'), beyond=Beyond.ENVIRONMENT
    ),
}
