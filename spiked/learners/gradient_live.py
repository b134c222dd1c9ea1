"""One set of dynamics of a `gradient` learner: the live one, that of a late label's steps, that of a rehearsal.

All that a window gathers and a reset puts to rest; weights, averages and feedback are the learner's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.bundle import Bundles
from spiked.learners.decoders import Decoder, decode_rest, grow_decoder, make_decoder
from spiked.learners.eligibility import DERIVED, Eligibility, make_eligibility
from spiked.learners.eligibility_kernels import forget
from spiked.learners.gradient_kernels import Work
from spiked.learners.gradient_spec import GradientSpec
from spiked.learners.lif import Lif, LifState, make_lif_state, rest_lif
from spiked.learners.plasticity import Decays, make_decays
from spiked.learners.window import Window, clear_window, window_of


class Live(NamedTuple):
    """One set of dynamics.

    Attributes
    ----------
    state, eli, window, work, decays, dec : what the modules of those names keep.
    local : float64[hidden layers, n_out]; membranes of the local read-outs, where feedback is local.
    bundles : of these dynamics and what they work on.
    """

    state: LifState
    eli: Eligibility
    window: Window
    work: Work
    decays: Decays
    local: NDArray[np.float64]
    dec: Decoder
    bundles: Bundles


def make_live(net: Lif, spec: GradientSpec, dt_ms: float) -> Live:
    """Build dynamics at rest."""
    n, n_out, dtype = int(net.u_at[-1]), int(net.sizes[-1]), net.weight.dtype
    widest = int(net.sizes[1:].max())
    work = Work(
        distance=np.zeros(n, dtype), slope=np.array([spec.surrogate_slope], dtype), signal=np.zeros(n, dtype),
        credit=np.zeros(n, dtype), ones=np.ones(n, dtype), error=np.zeros(n_out, dtype), logits=np.zeros(n_out),
        rate_hz=np.zeros(n), row=np.zeros(widest, dtype), factor=np.zeros(widest, dtype),
        scale=np.zeros(1, dtype), rate=np.zeros(1, dtype), reward=np.zeros(2), updates=np.zeros(1, np.int64),
    )  # fmt: skip
    return Live(
        make_lif_state(net), make_eligibility(net, spec.decays_rate > 0), window_of(net), work,
        make_decays(n, spec.decays_rate > 0), np.zeros((len(net.sizes) - 2 if spec.feedback == "local" else 0, n_out)),
        make_decoder(spec.decoder, n_out // spec.population, spec.population, spec.decoder_tau_ms, dt_ms),
        Bundles(),
    )  # fmt: skip


def drop_window(net: Lif, live: Live) -> None:
    """Eligibility to rest, and what the window has gathered with it; weights and dynamics stay."""
    forget(net, live.eli)
    clear_window(live.window)
    live.eli.touched[...] = 0
    for array in live.decays[1:5]:
        array[...] = 0


def rest_live(net: Lif, live: Live) -> None:
    """Put all to rest that a reset puts to rest."""
    drop_window(net, live)
    rest_lif(live.state)
    decode_rest(live.dec)
    live.work.rate_hz[...] = 0
    live.local[...] = 0
    live.window.before[...] = 0
    for array in live.decays[:1]:
        array[...] = 0


def take_up(net: Lif, live: Live) -> None:
    """Begin to learn: what is followed only then knows where the dynamics stand."""
    live.window.before[...] = live.state.membrane[int(net.u_at[-2]) :]
    for array in live.decays[:1]:
        array[...] = live.state.membrane[: len(array)]
    live.local[...] = 0


def lend(lender: Live, borrower: Live) -> None:
    """Hand over what is the learner's rather than one window's: its count of windows, its mean reward."""
    for mine, theirs in (
        (borrower.work.reward, lender.work.reward), (borrower.work.updates, lender.work.updates),
        (borrower.eli.kappa, lender.eli.kappa), (borrower.decays.average, lender.decays.average),
    ):  # fmt: skip
        mine[...] = theirs


def live_arrays(live: Live) -> dict[str, NDArray]:
    """All that the future depends on, by name."""
    arrays: dict[str, NDArray] = {"local": live.local}
    arrays |= {f"state.{k}": v for k, v in live.state._asdict().items()}
    arrays |= {f"eli.{k}": v for k, v in live.eli._asdict().items() if k not in DERIVED}
    arrays |= {f"window.{k}": v for k, v in live.window._asdict().items() if k != "logits"}
    arrays |= {f"decays.{k}": v for k, v in live.decays._asdict().items()}
    arrays |= {f"work.{k}": getattr(live.work, k) for k in ("rate_hz", "reward", "updates")}
    return arrays | {f"dec.{k}": getattr(live.dec, k) for k in ("score", "first", "clock")}


def grow_live(old: Live, before: Lif, net: Lif, spec: GradientSpec, dt_ms: float) -> Live:
    """Build the same dynamics with the outputs of `net`; those that `before` had not are at rest."""
    dec = grow_decoder(old.dec, int(net.sizes[-1]) // spec.population)
    live = make_live(net, spec, dt_ms)._replace(dec=dec)
    theirs = live_arrays(old)
    for name, array in live_arrays(live).items():
        if name == "eli.gradient":
            widen(array, theirs[name], int(before.w_at[-2]), before, net)
        elif name == "eli.own" and array.shape != theirs[name].shape:
            widen(array, theirs[name], int(old.eli.own_at[-2]), before, net)
        elif name == "window.snap":
            array[: len(theirs[name]) - 1], array[-1] = theirs[name][:-1], theirs[name][-1]
        elif not name.startswith("dec."):  # an entry per neuron or output, the last axis: the new ones come last
            array[..., : theirs[name].shape[-1]] = theirs[name]
    live.eli.forget[...] = old.eli.forget  # of the first decays
    live.eli.kappa[: len(old.eli.kappa)] = old.eli.kappa
    return live


def widen(array: NDArray, old: NDArray, at: int, before: Lif, net: Lif) -> None:
    """Copy an array with an entry per weight: up to `at` as it is, then the last layer, which has more columns now."""
    array[:at] = old[:at]
    wide, was = int(net.sizes[-1]), int(before.sizes[-1])
    array[at:].reshape(-1, wide)[:, :was] = old[at:].reshape(-1, was)
