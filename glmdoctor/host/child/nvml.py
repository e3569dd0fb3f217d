"""Ask NVML through pynvml. Input: {"preload": path or null, "drop_root": bool}; output: code, versions, cards."""

import contextlib
import ctypes
import json
import os
import sys

NOBODY = 65534


def main():
    asked = json.load(sys.stdin)
    try:
        import pynvml
    except ImportError as error:
        raise SystemExit(f"pynvml cannot be imported: {error}") from None
    if asked["preload"]:
        try:
            ctypes.CDLL(asked["preload"])
        except OSError as error:
            print(json.dumps(answer(12, str(error))))
            return
    if asked["drop_root"] and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        print(json.dumps(answer(error.value, str(error), library=loaded())))
        return
    print(json.dumps(healthy(pynvml)))


def answer(code, message, **known):
    return {
        "code": code,
        "message": message,
        "library": None,
        "library_version": None,
        "driver_version": None,
        "gpus": [],
        **known,
    }


def healthy(pynvml):
    gpus = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            gpus.append(card(pynvml, index))
    except pynvml.NVMLError as error:  # a card that is lost shows here, not in nvmlInit
        code, message = error.value, str(error)
    else:
        code, message = 0, "Success"
    return answer(
        code,
        message,
        library=loaded(),
        library_version=known(pynvml, pynvml.nvmlSystemGetNVMLVersion),
        driver_version=known(pynvml, pynvml.nvmlSystemGetDriverVersion),
        gpus=gpus,
    )


def card(pynvml, index):
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = known(pynvml, pynvml.nvmlDeviceGetMemoryInfo, handle)
    return {
        **health(pynvml, handle),
        "index": index,
        "name": text(known(pynvml, pynvml.nvmlDeviceGetName, handle) or ""),
        "memory_total": memory.total if memory else 0,
        "memory_free": memory.free if memory else 0,
        "compute_capability": known(pynvml, pynvml.nvmlDeviceGetCudaComputeCapability, handle),
        "uuid": text(known(pynvml, pynvml.nvmlDeviceGetUUID, handle) or ""),
    }


# nvmlClocksEventReason…; the others (idle, applications clocks, display) are no faults.
SLOWED_BY = {0x4: "power-cap", 0x8: "hw-slowdown", 0x20: "sw-thermal", 0x40: "hw-thermal", 0x80: "power-brake"}
UNCORRECTED, SINCE_BOOT, EVER = 1, 0, 1  # nvmlMemoryErrorType_t, nvmlEccCounterType_t
FABRIC = {1: "not-started", 2: "in-progress", 3: "completed"}  # nvmlGpuFabricState_t; 0 is not supported
COMPUTE_MODES = {0: "default", 1: "exclusive-thread", 2: "prohibited", 3: "exclusive-process"}  # nvmlComputeMode_t
CELSIUS = 0


def health(pynvml, handle):
    def ask(name, *arguments):
        return known(pynvml, getattr(pynvml, name), handle, *arguments)

    pci, slowed, mig = ask("nvmlDeviceGetPciInfo"), ask("nvmlDeviceGetCurrentClocksThrottleReasons"), None
    mode = ask("nvmlDeviceGetMigMode")
    if mode is not None:
        mig = bool(mode[0])
    persistence, state = ask("nvmlDeviceGetPersistenceMode"), ask("nvmlDeviceGetPerformanceState")
    return {
        "pci": text(pci.busId) if pci else "",
        "performance_state": state if state is not None and state < 16 else None,
        "temperature": ask("nvmlDeviceGetTemperature", CELSIUS),
        "slowed_by": [name for bit, name in SLOWED_BY.items() if (slowed or 0) & bit],
        "link": link(ask),
        "memory_faults": memory_faults(ask),
        "persistence": None if persistence is None else bool(persistence),
        "mig": mig,
        "mig_instances": mig_instances(pynvml, handle) if mig else 0,
        "compute_mode": COMPUTE_MODES.get(ask("nvmlDeviceGetComputeMode")),
        "fabric": fabric(pynvml, handle),
        "processes": processes(pynvml, ask),
    }


def link(ask):
    names = ("CurrPcieLinkGeneration", "MaxPcieLinkGeneration", "CurrPcieLinkWidth", "MaxPcieLinkWidth")
    values = [ask("nvmlDeviceGet" + name) for name in names]
    keys = ("generation", "generation_max", "width", "width_max")
    return None if None in values else dict(zip(keys, values))  # noqa: B905 (the same length)


def memory_faults(ask):
    since_boot = ask("nvmlDeviceGetTotalEccErrors", UNCORRECTED, SINCE_BOOT)
    ever = ask("nvmlDeviceGetTotalEccErrors", UNCORRECTED, EVER)
    rows, pages = ask("nvmlDeviceGetRemappedRows"), ask("nvmlDeviceGetRetiredPagesPendingStatus")
    if since_boot is None and rows is None and pages is None:
        return None
    _, _, pending, failed = rows or (0, 0, 0, 0)
    return {
        "since_boot": since_boot,
        "ever": ever,
        "remap_pending": bool(pending or pages),
        "remap_failed": bool(failed),
    }


def mig_instances(pynvml, handle):
    most = known(pynvml, pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    found = (known(pynvml, pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index) for index in range(most))
    return sum(instance is not None for instance in found)


def fabric(pynvml, handle):
    if not hasattr(pynvml, "nvmlDeviceGetGpuFabricInfo"):  # a pynvml from before Hopper
        return None
    info = pynvml.c_nvmlGpuFabricInfo_t()
    if known(pynvml, pynvml.nvmlDeviceGetGpuFabricInfo, handle, ctypes.byref(info)) is None:
        return None
    if info.state == 3 and info.status != 0:  # the attempt ended, and not well
        return f"error {info.status}"
    return FABRIC.get(info.state)


def processes(pynvml, ask):
    # The name without a number refuses to answer where an older driver has only the older function.
    asked = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
    names = [name for name in asked if hasattr(pynvml, name)]
    found = next((answer for name in names if (answer := ask(name)) is not None), [])
    return [{"pid": each.pid, "name": program(each.pid), "memory": each.usedGpuMemory} for each in found]


def program(pid):
    """By this system's own table: from inside a container the driver's numbers are those of the outside."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def known(pynvml, ask, *arguments):
    """None where this driver or card does not tell."""
    try:
        return text(ask(*arguments))
    except pynvml.NVMLError:
        return None


def text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def loaded():
    """The file that the loader really took, by this process's own map."""
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            path = line.partition("/")[2].strip()
            if "libnvidia-ml" in path:
                return "/" + path
    return None


main()
