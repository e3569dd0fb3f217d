"""Measures prefill and decode of a model, with its own weights or with random ones at the real shapes."""
