"""The window of spike-timing dependent plasticity, measured: the real kernel against Eq. 50.

    python benchmarks/stdp_window.py [--plot docs/img/stdp-window.png] [--json out.json]

One input event and one spike of the neuron, ``dt = t_pre - t_post`` from -100 to +100 ms apart, in a fresh learner
each; a second input makes the neuron fire when it should. The plot needs matplotlib (the extra ``plots``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spiked.learners.contract import Steps
from spiked.learners.lif import LayerSpec, layer_weight, make_lif
from spiked.learners.stdp import StdpLearner
from spiked.learners.stdp_rules import StdpSpec

SPAN_MS, PRE_AT = 100, 100
SPEC = StdpSpec(a_plus=1.0, a_minus=-0.6, tau_plus_ms=17.0, tau_minus_ms=34.0, rate=0.01, w_min=-10.0, w_max=10.0)


def change(dt_ms: int, dtype: type) -> float:
    """Change of the weight by one pair, over the rate."""
    net = make_lif(2, [LayerSpec(1, tau_mem_ms=0.01, threshold=5.0)], 1.0, dtype)
    layer_weight(net, 0)[:, 0] = 0.0, 9.0
    learner = StdpLearner(net, 1, SPEC)
    events = sorted([(PRE_AT, 0), (PRE_AT - dt_ms, 1)])
    indptr = np.searchsorted([t for t, _ in events], np.arange(PRE_AT + SPAN_MS + 2)).astype(np.int64)
    channels = np.array([channel for _, channel in events], np.int32)
    learner.run(Steps(0, indptr, channels, np.ones(2, np.float32)))
    return float(learner.weights(0)[0, 0]) / SPEC.rate


def equation_50(dt_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eq. 50, with dt = 0 as pre before post."""
    up = SPEC.a_plus * np.exp(-abs(dt_ms) / SPEC.tau_plus_ms)
    return np.where(dt_ms <= 0, up, SPEC.a_minus * np.exp(-abs(dt_ms) / SPEC.tau_minus_ms))


def plot(path: Path, dts: NDArray[np.int64], measured: NDArray[np.float64]) -> None:
    """Eq. 50 as a line, the measured changes as points."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.4), dpi=110, layout="constrained")
    axes.axhline(0, color="0.8", linewidth=0.8)
    axes.axvline(0, color="0.8", linewidth=0.8)
    for side in (np.linspace(-SPAN_MS, 0, 400), np.linspace(1e-6, SPAN_MS, 400)):
        axes.plot(side, equation_50(side), color="tab:blue", linewidth=1.4, label="Eq. 50" if side[0] < 0 else None)
    some = dts % 4 == 0
    axes.plot(dts[some], measured[some], "o", color="tab:orange", markersize=3.2, label="measured")
    axes.set_xlabel(r"$\Delta t = t_\mathrm{pre} - t_\mathrm{post}$ (ms)")
    axes.set_ylabel(r"$\Delta W$ / rate")
    axes.set_xlim(-SPAN_MS, SPAN_MS)
    axes.legend(frameon=False, loc="upper right")
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def main() -> int:
    """Measure, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    dts = np.arange(-SPAN_MS, SPAN_MS + 1)
    want = equation_50(dts.astype(float))
    largest = {}
    for name, dtype in (("float32", np.float32), ("float64", np.float64)):
        measured = np.array([change(int(dt), dtype) for dt in dts])
        largest[name] = float(np.abs(measured - want).max())
        print(f"{name}: {len(dts)} time differences, largest deviation from Eq. 50 {largest[name]:.2e} (A_+ = 1)")
    if args.plot:
        plot(args.plot, dts, measured)
        print(f"drawn: {args.plot}")
    if args.json:
        args.json.write_text(json.dumps({"largest_deviation": largest}, indent=1) + "\n")
    return 0 if largest["float32"] < 1e-6 and largest["float64"] < 1e-14 else 1


if __name__ == "__main__":
    raise SystemExit(main())
