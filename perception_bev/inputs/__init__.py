"""Inputs: validated sensor frames in, network tensors out. `build` is the only way."""
