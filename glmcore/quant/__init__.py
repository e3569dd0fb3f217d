"""Int8 and int4 weights in the packing of the original checkpoints."""
