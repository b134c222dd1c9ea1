"""The peers: one module each. A module defines `PEERS`, what the library can do of our workloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

MODULES = {
    "snntorch": "snntorch_",
    "torch": "torch_",
    "jax": "jax_",
    "bindsnet": "bindsnet_",
    "braintrace": "braintrace_",
    "brian2": "brian2_",
    "nest": "nest_",
    "norse": "norse_",
    "spikingjelly": "spikingjelly_",
    "nengo": "nengo_",
}
"""Peer on the command line: its module here."""


class Peer(NamedTuple):
    """One thing that a peer does.

    Attributes
    ----------
    name : what the tables call it.
    task : the task of the workloads that it runs.
    make : from workload and `k` to a function that does step `i` and returns the outputs' membranes (or anything,
        where nothing is compared); or to a `timing.Side` where `many`.
    what : what a step computes, in a line.
    many : runs many steps a call; its reference is then our own many steps a call.
    same : outputs are those of ours to rounding (while learning hardly moves weights), and are checked to be.
    exact : so is its learning: checked at a rate (the keyword `rate` of `make`) at which weights move.
    large : runs at the sizes of W3 too.
    """

    name: str
    task: str
    make: Callable[..., Any]
    what: str
    many: bool = False
    same: bool = False
    exact: bool = False
    large: bool = False
