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
        "index": index,
        "name": text(known(pynvml, pynvml.nvmlDeviceGetName, handle) or ""),
        "memory_total": memory.total if memory else 0,
        "memory_free": memory.free if memory else 0,
        "compute_capability": known(pynvml, pynvml.nvmlDeviceGetCudaComputeCapability, handle),
        "uuid": text(known(pynvml, pynvml.nvmlDeviceGetUUID, handle) or ""),
    }


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
