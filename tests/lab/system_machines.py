"""Machines short of memory or disk, or whose folders are closed."""

from __future__ import annotations

from case import Case
from machine import Machine
from python_machines import stand_in_compiler

LIMIT = 700 << 20  # bytes


def bare(machine: Machine) -> None:
    """A machine without card, driver and toolkit."""


def processor_of_2012(machine: Machine) -> None:
    cpuinfo = machine.folder / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Xeon E5-2670\nflags\t\t: fpu sse2 sse4_2 avx aes\n\n")
    machine.steps.append(("mount", "--bind", str(cpuinfo), "/proc/cpuinfo"))


def limited_by_cgroup(machine: Machine) -> None:
    for folder, limit, used in (("memory/", "limit_in_bytes", "usage_in_bytes"), ("", "max", "current")):
        machine.files["cgroup"] |= {f"{folder}memory.{limit}": f"{LIMIT}\n", f"{folder}memory.{used}": "1048576\n"}


def limited_by_ulimit(machine: Machine) -> None:
    machine.steps.append(("ulimit", "-v", str(LIMIT // 1024)))


def killed_for_memory(machine: Machine, *names: str) -> None:
    """The container's own counter, and the kernel's log as dmesg gives it."""
    machine.files["cgroup"] |= {
        "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        "memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\n",
    }
    lines = [f"[ 99.0] Memory cgroup out of memory: Killed process {4000 + n} ({name})" for n, name in enumerate(names)]
    script = "#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines or ["[ 1.0] Linux version 6.1.0"])
    machine.write("/usr/local/bin/dmesg", script, 0o755)


def python_killed(machine: Machine) -> None:
    killed_for_memory(machine, "python3", "chrome")


def somebody_killed(machine: Machine) -> None:
    killed_for_memory(machine)


def others_killed(machine: Machine) -> None:
    killed_for_memory(machine, "chrome", "chrome")


def proxy_that_was_switched_off(machine: Machine) -> None:
    machine.environment |= {"HTTPS_PROXY": "http://user:secret@127.0.0.1:7890"}


def proxy_for_everything(machine: Machine) -> None:
    machine.environment |= {"http_proxy": "http://proxy.example:3128", "no_proxy": "10.0.0.0/8"}


def proxy_but_for_this_machine(machine: Machine) -> None:
    machine.environment |= {"all_proxy": "http://proxy.example:3128", "NO_PROXY": "127.0.0.0/8, localhost"}


def endpoint_without_scheme(machine: Machine) -> None:
    machine.environment |= {"HF_ENDPOINT": "hf-mirror.com"}


def measured(machine: Machine) -> None:
    machine.arguments += ["--deep", "--only", "deep.cpu"]


def small_cache(machine: Machine) -> None:
    stand_in_compiler(machine)
    cache = machine.folder / "home" / ".cache"
    machine.folder_of_size(cache, "64k")
    machine.environment["XDG_CACHE_HOME"] = str(cache)


def everything_full(machine: Machine) -> None:
    """Home, cache and temporary files on one full disk; the doctor still speaks."""
    small_cache(machine)
    small = machine.environment["XDG_CACHE_HOME"]
    machine.steps.append(("sh", "-c", f"head -c 1M /dev/zero >'{small}/fill' 2>/dev/null || true"))
    machine.environment |= {"HOME": small, "TMPDIR": small}


def read_only_cache(machine: Machine) -> None:
    stand_in_compiler(machine)
    cache = machine.folder / "home" / ".cache"
    machine.mounted_with(cache, "ro")
    machine.environment["XDG_CACHE_HOME"] = str(cache)


def file_in_place_of_the_kernels(machine: Machine) -> None:
    cache = machine.folder / "home" / ".cache"
    (cache / "glmcore").mkdir(parents=True)
    (cache / "glmcore" / "kernels").touch()
    machine.environment["XDG_CACHE_HOME"] = str(cache)


def cache_of_another_user(machine: Machine) -> None:
    """A cache that an earlier sudo left to root."""
    stand_in_compiler(machine)
    cache = machine.folder / "home" / ".cache"
    cache.mkdir(mode=0o755)
    machine.environment["XDG_CACHE_HOME"] = str(cache)


DISK_FULL, NO_CACHE = {"system.disk": "disk-full"}, {"system.cache": "hf-cache-not-writable"}
NOT_KEPT = {"kernel.build": "hf-cache-not-writable"}  # and nothing is built elsewhere: Machine.check watches
CASES = (
    Case(
        bare,
        clears=(
            *("system.platform", "system.cpu", "system.memory", "system.disk", "system.cache"),
            *("system.capacity", "accelerators.seen", "system.kills", "hub.settings"),
        ),
    ),
    Case(measured, clears=("deep.cpu",)),
    Case(processor_of_2012, {"system.cpu": "cpu-no-avx2"}),
    Case(limited_by_cgroup, {"system.memory": "ram-oom"}),
    Case(limited_by_ulimit, {"system.memory": "ram-oom"}),
    Case(python_killed, {"system.kills": "process-killed-ram"}),
    Case(somebody_killed, {"system.kills": "process-killed-ram"}),
    Case(others_killed, clears=("system.kills",)),
    Case(proxy_that_was_switched_off, {"hub.settings": "hub-unreachable"}),
    Case(proxy_for_everything, {"hub.localhost": "localhost-through-proxy"}),
    Case(proxy_but_for_this_machine, clears=("hub.localhost", "hub.settings")),
    Case(endpoint_without_scheme, {"hub.settings": "hub-unreachable"}),
    Case(small_cache, DISK_FULL | NO_CACHE | NOT_KEPT, causes=("disk-full",)),
    Case(everything_full, DISK_FULL | NO_CACHE | NOT_KEPT, causes=("disk-full",)),
    Case(read_only_cache, NO_CACHE | NOT_KEPT),
    Case(file_in_place_of_the_kernels, NOT_KEPT),
    Case(cache_of_another_user, NO_CACHE | NOT_KEPT, as_user=True),
)
