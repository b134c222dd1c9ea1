"""Which channels a step has touched: a bit each, and above 64 words of bits one bit that says where to look.

Adding a channel takes a few instructions whatever the sensor, and taking all out gives them in ascending order, each
once, at the cost of one look for every 4,096 channels: no sort, and nothing to clear.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from spiked.learners.jit import inlined


class ChannelSet(NamedTuple):
    """An empty set is all zeros.

    Attributes
    ----------
    bits : uint64[ceil(n / 64)]; bit c % 64 of word c // 64 is channel c.
    groups : uint64[ceil(n / 4096)]; bit w % 64 of word w // 64: word w of `bits` is not zero.
    """

    bits: NDArray[np.uint64]
    groups: NDArray[np.uint64]


def make_channel_set(n: int) -> ChannelSet:
    """Room for channels 0 .. `n` - 1, none of them in it."""
    words = -(-n // 64)
    return ChannelSet(np.zeros(words, np.uint64), np.zeros(-(-words // 64), np.uint64))


@intrinsic
def _lowest(typing_context: Any, word: Any) -> Any:
    """Position of the lowest bit of a word that is not zero."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@inlined
def add_channel(channels, c):  # type: ignore[no-untyped-def]
    """Put channel `c` in."""
    word = c >> 6
    channels.bits[word] |= np.uint64(1) << np.uint64(c & 63)
    channels.groups[word >> 6] |= np.uint64(1) << np.uint64(word & 63)


@inlined
def take_channels(channels, out, at):  # type: ignore[no-untyped-def]
    """Take all channels out, in ascending order, into `out` from position `at` on; returns the position after them."""
    one = np.uint64(1)
    for g in range(len(channels.groups)):
        group = channels.groups[g]
        if group == 0:
            continue
        channels.groups[g] = 0
        while group != 0:
            word = (g << 6) + np.int64(_lowest(group))
            group &= group - one
            bits = channels.bits[word]
            channels.bits[word] = 0
            while bits != 0:
                out[at] = (word << 6) + np.int64(_lowest(bits))
                at += 1
                bits &= bits - one
    return at
