"""Bytes, clocks, files and sockets: everything between a sensor and a step. Knows no learner."""
