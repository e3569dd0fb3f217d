"""A repair from its plan to its undoing: what carries plans out, writes them down, and takes them back."""
