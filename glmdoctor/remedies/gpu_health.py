"""What a card reports of itself."""

from __future__ import annotations

from glmdoctor.remedies.answer import Answer, as_root, shell

ANSWERS = {
    "cuda-system-not-ready": Answer(advice=as_root("systemctl enable --now nvidia-fabricmanager")),
    "gpu-xid-fault": Answer(advice=as_root("dmesg | grep -i xid")),
    "gpu-throttled": Answer(advice=shell("nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER")),
    "pcie-link-narrow": Answer(advice=as_root("lspci -vv -d 10de:")),
    "gpu-ecc-errors": Answer(advice=as_root("nvidia-smi -q -d ECC,ROW_REMAPPER", "nvidia-smi -r")),
    "gpu-exclusive-compute-mode": Answer(advice=as_root("nvidia-smi -c 0")),
}
