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
