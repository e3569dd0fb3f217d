"""The figures of one measurement, as JSON and as a few lines for people. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from glmcore.plan import format_size

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Batch:
    """Answers decoded side by side: tokens/s of all of them, and what a step costs against one of a single row."""

    rows: int
    decode_tokens_per_s: float
    step_cost: float


@dataclass(frozen=True)
class Figures:
    """What a workload took. Bandwidth is what decoding read for each second, beside what the memory gives at best."""

    model: str
    backend: str
    prompt: int
    generate: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    time_to_first_token_s: float
    weight_bytes: int
    bandwidth_gb_per_s: float
    machine_bandwidth_gb_per_s: float
    peak_rss_bytes: int
    load_s: float
    batches: tuple[Batch, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """``batches`` only where some were measured."""
        figures = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        return figures if self.batches else {name: value for name, value in figures.items() if name != "batches"}

    def text(self) -> str:
        machine = self.machine_bandwidth_gb_per_s
        share = self.bandwidth_gb_per_s / machine
        return "\n".join(
            [
                f"{self.model}, {self.backend}",
                f"prefill   {self.prefill_tokens_per_s:10.1f} tokens/s ({self.prompt} tokens, "
                f"first token after {self.time_to_first_token_s:.2f} s)",
                f"decode    {self.decode_tokens_per_s:10.1f} tokens/s ({self.generate} tokens)",
                f"bandwidth {self.bandwidth_gb_per_s:10.1f} GB/s of {machine:.1f} ({share:.0%})",
                f"weights {format_size(self.weight_bytes)}, peak memory {format_size(self.peak_rss_bytes)}, "
                f"loaded in {self.load_s:.1f} s",
                *(
                    f"{batch.rows:2} rows   {batch.decode_tokens_per_s:10.1f} tokens/s in all, "
                    f"a step costs {batch.step_cost:.2f} of one row's"
                    for batch in self.batches
                ),
            ]
        )
