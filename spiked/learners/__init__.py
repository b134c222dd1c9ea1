"""The mathematics: layers, learning rules, heads. NumPy and Numba only; no files, no clock, no logging."""
