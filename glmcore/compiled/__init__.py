"""Engines: a model of known lengths as compiled graphs, made, opened and run."""
