"""What many answers at once cost and give: the parts of bench_batching.py."""
