"""Problems that explain others, in groups: what a check names as ``explained_by`` where several checks name it."""

from __future__ import annotations

# Problems for which the NVIDIA module does not run, and those for which a driver that runs elsewhere is out of reach.
NO_MODULE = (
    "no-nvidia-driver",
    "nouveau-in-the-way",
    "driver-not-loaded",
    "kernel-module-mismatch",
    "secure-boot-module-rejected",
)
OUT_OF_REACH = ("docker-no-gpu-runtime", "wsl-gpu-lost", "wsl-libcuda-shadowed")
NO_DRIVER = ("no-nvidia-driver",)
STALE_CACHE = ("linker-cache-stale",)
# What keeps programs from loading libcuda, and what gives them a wrong one.
NO_LIBCUDA = (
    *NO_DRIVER,
    "nouveau-in-the-way",
    *OUT_OF_REACH,
    "nvml-not-found",
    "libcuda-link-broken",
    *STALE_CACHE,
    "wsl-no-adapter",
)
WRONG_LIBCUDA = ("libcuda-link-broken", "libcuda-stub-loaded", "cuda-compat-lib-conflict")
# What keeps torch from the driver.
DRIVER_FAULTS = (*NO_MODULE, *OUT_OF_REACH, "driver-library-mismatch", "nvml-not-found", "libcuda-so-missing")
# What is wrong with the installed torch, and with the packages as a whole.
DRIVER_TOO_OLD, NO_CODE = "cuda-driver-too-old", "torch-arch-unsupported"
TORCH_UNFIT = (DRIVER_TOO_OLD, NO_CODE)
DEPS_MISSING = "python-deps-missing"
NO_PACKAGES = (DEPS_MISSING,)
OLD_PACKAGES = ("torch-too-old-skip-init", *NO_PACKAGES)
UNUSED_CARD = ("torch-cpu-only",)
CARD_LOST = "gpu-lost"
LOST_CARD = (CARD_LOST,)
RAM_SHORT = "ram-oom"
LITTLE_MEMORY = (RAM_SHORT,)
