"""Golden data: what a run computed, call by call, and in which tensor two runs part."""
