"""The only side that reads the machine: facts, the probes that gather them, and the IO they do it through."""
