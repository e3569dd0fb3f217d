"""Multiply on each card by the examined interpreter's torch, and copy its memory once. No input; one row per card."""

import json
import time

SIZE = 4096
COPIED = 1 << 28  # bytes
ROUNDS = 5


def run(torch, index):
    """{"device", "name", "error", "seconds", "bandwidth"}, or {"device", "name", "fault"}."""
    device = f"cuda:{index}"
    row = {"device": device, "name": ""}
    try:
        row["name"] = torch.cuda.get_device_name(index)
        a, b = (torch.randint(-4, 5, (SIZE, SIZE)).half().to(device) for _ in range(2))
        product = (a @ b)[:8].float().cpu()
        expected = a[:8].float().cpu() @ b.float().cpu()  # whole numbers: float32 holds them exactly
        row["error"] = float((product - expected).abs().max() / expected.abs().max())
        row["seconds"] = timed(torch, device, lambda: a @ b)
        size = min(COPIED, torch.cuda.mem_get_info(index)[0] // 4)
        source = torch.empty(size, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        row["bandwidth"] = 2 * size / timed(torch, device, lambda: target.copy_(source))  # read and written
    except Exception as error:  # whatever the card answers is the finding
        return {"device": device, "name": row["name"], "fault": str(error).strip().splitlines()[0][:300]}
    return row


def timed(torch, device, work):
    best = None
    for _ in range(ROUNDS):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
        best = seconds if best is None else min(best, seconds)
    return best


def main():
    import torch

    print(json.dumps({"runs": [run(torch, index) for index in range(torch.cuda.device_count())]}))


main()
