#!/usr/bin/env python3
"""What an engine costs to open and to call: seconds beyond `import torch`, memory over the mapped weights, ms a token.

    python scripts/bench_engine.py ENGINE [--tokens 200]

Prints a line of JSON. A call's minimum is what the work takes, the median what the machine lets it take; with layers of
a small size both are nearly all overhead over the products.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def resident() -> int:
    return psutil.Process().memory_info().rss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine")
    parser.add_argument("--tokens", type=int, default=200)
    options = parser.parse_args()
    before, started = resident(), time.perf_counter()
    from glmcore.compiled.opening import open_engine

    imported, between = time.perf_counter(), resident()
    engine = open_engine(options.engine)
    opened, after = time.perf_counter(), resident()
    caches = engine.caches()
    engine.prefill([[5, 6, 7]] * caches.rows, caches)
    took = []
    for _ in range(min(options.tokens, engine.manifest.total_len - 3)):
        begun = time.perf_counter()
        engine.decode([5] * caches.rows, caches)
        took.append(1000 * (time.perf_counter() - begun))
    print(json.dumps({
        "layers": engine.config.num_layers,
        "archive_mb": engine.manifest.files["engine.pt2"].size / 1e6,
        "import_s": round(imported - started, 3),
        "open_s": round(opened - imported, 3),
        "weights_mb": sum(part.size for part in engine.manifest.weights) / 1e6,
        "import_rss_mb": (between - before) / 1e6,
        "open_rss_mb": (after - between) / 1e6,
        "token_ms_min": round(min(took), 3),
        "token_ms_median": round(statistics.median(took), 3),
        "threads": torch.get_num_threads(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
