"""The CPU kernels: C sources, how they are built and checked, and how torch tensors reach them."""
