"""Scripts that run in a process of their own and print JSON; standard library only (and pynvml, where it is asked)."""
