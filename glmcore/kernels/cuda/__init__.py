"""Quantised linear layers on NVIDIA cards: Triton, cpm_kernels or torch, whichever passes its self-test first."""
