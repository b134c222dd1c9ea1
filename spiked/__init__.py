"""A daemon that keeps learning from event cameras and silicon cochleas.

``io`` knows bytes, clocks, files and sockets; ``learners`` is the mathematics; ``service`` joins them.
The file to open first is ``service/pipeline.py``: one message, start to end.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("spiked")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"
