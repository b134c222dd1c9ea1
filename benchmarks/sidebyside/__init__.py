"""What `benchmarks/speed.py` is made of: workloads, both sides of each comparison, clocks, tables."""
