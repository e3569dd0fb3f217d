"""One model over several processes or machines: each stage has a range of layers and its rows of the cache, and one
leader has everything else."""
