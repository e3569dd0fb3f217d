"""Ask a libcuda for the highest CUDA version it supports; never cuInit. Input: {"library": path}."""

import ctypes
import json
import sys


def main():
    path = json.load(sys.stdin)["library"]
    version = ctypes.c_int(0)
    try:
        code = ctypes.CDLL(path).cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError) as error:
        code, message = -1, str(error)
    else:
        message = f"error {code}"
    print(json.dumps({"code": code, "message": message, "version": version.value}))


main()
