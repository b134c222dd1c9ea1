"""From a stream's configuration to its binner and its learner."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from spiked.io.binner import BinnerSpec
from spiked.io.events import Geometry
from spiked.learners.cascade import Cascade
from spiked.learners.copies import drawn_warps, neighbours
from spiked.learners.distance_alarm import DistanceAlarm
from spiked.learners.fixed import FixedLearner, FixedSpec
from spiked.learners.gradient import GradientLearner
from spiked.learners.gradient_spec import GradientSpec
from spiked.learners.head_memory import HeadMemoryLearner
from spiked.learners.lif import LayerSpec, Lif, layer_weight, make_lif
from spiked.learners.local_fields import local_fields
from spiked.learners.memory import MemoryLearner
from spiked.learners.methods import Method
from spiked.learners.novelty import Novelty
from spiked.learners.objectives import NEEDS_SPIKES
from spiked.learners.penalties import OnlineEwc, SynapticIntelligence
from spiked.learners.perturbation import PerturbationLearner, PerturbationSpec
from spiked.learners.pseudo import PseudoReplay
from spiked.learners.receptive import GAIN, dense_weights, edge_fields
from spiked.learners.regularisers import Regularisers
from spiked.learners.rehearsal import Rehearsal
from spiked.learners.rtrl import RtrlLearner, RtrlSpec
from spiked.learners.rtrl_full import FullRtrlLearner, FullRtrlSpec
from spiked.learners.stdp import StdpLearner
from spiked.learners.stdp_rules import StdpSpec
from spiked.service.config import ConfigError, Layer, Stream

AnyLearner = (
    FixedLearner | HeadMemoryLearner | RtrlLearner | GradientLearner | MemoryLearner | FullRtrlLearner
    | PerturbationLearner | StdpLearner
)  # fmt: skip

DENSE_GAIN = 2.0
TASK_WINDOWS = 100
"""Of a task, for `ewc` and `si`, where no answer is simply wrong and so errors cannot tell where one ends."""
SLOPES = {"spike": 0.0, "noisy_spike": 0.2}
"""Slopes of surrogates where the configuration names none; of the others, 2."""


def binner_spec(stream: Stream) -> BinnerSpec:
    """How this stream becomes steps."""
    return BinnerSpec(
        geometry=Geometry(stream.width, stream.height, stream.planes),
        dt_us=round(stream.dt_ms * 1000),
        downsample=stream.downsample,
        count=stream.count,
        threshold=stream.threshold,
        clip_at=stream.clip_at,
        refractory_us=stream.refractory_us,
        hot_pixel_hz=stream.hot_pixel_hz,
        late=stream.late,
    )


def build_learner(stream: Stream, n_classes: int | None = None) -> AnyLearner:
    """A fresh learner: the same configuration and seed give the same weights.

    `n_classes` takes the place of the configuration's own number of classes. Raises ConfigError for what a learner
    refuses when it sees its weights.
    """
    try:
        return _build(stream, n_classes)
    except ValueError as error:
        raise ConfigError(f"stream {stream.id!r}: {error}") from None


def _build(stream: Stream, n_classes: int | None) -> AnyLearner:
    network, learning = stream.network, stream.learning
    n_out = network.outputs or (len(network.classes) if n_classes is None else n_classes)
    if learning.rule == "stdp":
        return _build_stdp(stream, n_out)
    if network.head != "gradient":
        fixed = FixedSpec(network.head, tuple(network.trace_ms), network.ridge)
        return _remembering(FixedLearner(build_network(stream), n_out, fixed, stream.dt_ms), stream)
    fires = learning.objective in NEEDS_SPIKES or network.decoder != "membrane"
    read_out = LayerSpec(max(1, n_out) * network.population, network.tau_out_ms, 1.0 if fires else math.inf)
    net = build_network(stream, read_out)
    slope = SLOPES.get(learning.surrogate, 2.0) if learning.surrogate_slope is None else learning.surrogate_slope
    memory_ms = max(network.trace_ms)
    if learning.rule == "perturbation":
        tried = PerturbationSpec(
            mode=learning.perturbation,
            sigma=learning.perturbation_size,
            rate=learning.rate,
            decoder=network.decoder,
            population=network.population,
            decoder_tau_ms=memory_ms,
        )
        return PerturbationLearner(net, tried, stream.dt_ms, network.seed)
    if learning.rule == "rtrl" and network.layers[0].recurrent:
        full = FullRtrlSpec(
            objective=learning.objective,
            surrogate=learning.surrogate,
            surrogate_slope=slope,
            optimizer=learning.optimizer,
            rate=learning.rate,
            decoder_tau_ms=memory_ms,
            sparse_steps=learning.sparse_steps,
            max_bytes=int(learning.influence_mb * 1e6),
        )
        return FullRtrlLearner(net, full, stream.dt_ms)
    if learning.update == "step":
        each_step = RtrlSpec(
            objective=learning.objective,
            surrogate=learning.surrogate,
            surrogate_slope=slope,
            feedback=learning.feedback,
            rate=learning.rate,
            decoder=network.decoder,
            decoder_tau_ms=memory_ms,
        )
        return RtrlLearner(net, each_step, stream.dt_ms, network.seed)
    r = learning.regularisers
    spec = GradientSpec(
        objective=learning.objective,
        surrogate=learning.surrogate,
        surrogate_slope=slope,
        feedback=learning.feedback,
        optimizer=learning.optimizer,
        rate=learning.rate,
        decays_rate=learning.decays_rate,
        error_threshold=learning.error_threshold,
        decoder=network.decoder,
        population=network.population,
        decoder_tau_ms=memory_ms,
        regularisers=Regularisers(r.l1, r.upper, r.upper_hz, r.upper_power, r.lower, r.lower_hz),
    )
    learner = GradientLearner(net, spec, stream.dt_ms, network.seed)
    memory = stream.memory
    if not memory.methods:
        return learner
    rehearsal = None
    if "replay" in memory.methods:
        rehearsal = Rehearsal(learner, int(memory.budget_mb * 1e6), memory.replay_windows, network.seed)
    windows = memory.average_windows if "average" in memory.methods else 0
    return MemoryLearner(learner, _methods(learner, stream), windows, rehearsal)


def _methods(learner: GradientLearner, stream: Stream) -> tuple[Method, ...]:
    """What acts when a window has taught, in the order of this table."""
    m, dt_ms, seed = stream.memory, stream.dt_ms, stream.network.seed
    every = TASK_WINDOWS if stream.network.outputs or stream.learning.objective == "reward" else 0
    known: dict[str, Callable[[], Method]] = {
        "novelty": lambda: Novelty(learner, m.novelty_power, m.novelty_most),
        "pseudo": lambda: PseudoReplay(learner, m.pseudo_windows, dt_ms=dt_ms, seed=seed),
        "ewc": lambda: OnlineEwc(learner, m.ewc_strength, every=every),
        "si": lambda: SynapticIntelligence(learner, m.si_strength, every=every),
        "cascade": lambda: Cascade(learner, m.cascade_levels, m.cascade_coupling, at_once=every > 0),
    }
    return tuple(make() for name, make in known.items() if name in m.methods)


def _remembering(learner: FixedLearner, stream: Stream) -> FixedLearner | HeadMemoryLearner:
    memory, grid = stream.memory, binner_spec(stream).grid
    if not memory.methods:
        return learner
    warps = []
    if "copies" in memory.methods:
        warps = [warp for px in memory.copies_px for warp in neighbours(grid.width, grid.height, px)]
        draws = np.random.default_rng([stream.network.seed, 0xC0B1E5])  # apart from those of the weights
        warps += drawn_warps(draws, grid.width, grid.height, memory.copies_drawn)
    drift = DistanceAlarm() if "drift" in memory.methods else None
    size = grid.width, grid.height, grid.planes
    return HeadMemoryLearner(learner, size, warps, drift, memory.copies_vote and bool(warps))


def _build_stdp(stream: Stream, n_out: int) -> StdpLearner:
    network, learning = stream.network, stream.learning
    own = msgspec.to_builtins(learning.stdp)
    spec = StdpSpec(
        plastic=tuple(own.pop("layers")),
        **own,
        rate=learning.rate,
        head=network.head,
        trace_ms=tuple(network.trace_ms),
        ridge=network.ridge,
    )
    return StdpLearner(build_network(stream), n_out, spec, stream.dt_ms)


def build_network(stream: Stream, read_out: LayerSpec | None = None) -> Lif:
    """Lay out a stream's feature layers, and a read-out above them, with their first weights (0 in the read-out)."""
    network = stream.network
    spec, rng = binner_spec(stream), np.random.default_rng(network.seed)
    own = np.random.default_rng([network.seed, 0x0DECA7])  # apart, so that the weights do not depend on these draws
    layers = [_layer(layer, own) for layer in network.layers] + ([read_out] if read_out else [])
    net = make_lif(spec.n_channels, layers, stream.dt_ms)
    grid = spec.grid
    for k, layer in enumerate(network.layers):
        below, n = int(net.sizes[k]), layer.neurons
        weight = layer_weight(net, k)
        plastic = stream.learning.rule == "stdp" and k in stream.learning.stdp.layers
        kind = layer.weights or ("fields" if plastic else "dense" if k > 0 else "edges")
        if kind == "fields":
            place = (grid.width, grid.height, grid.planes) if k == 0 else (below, 1, 1)
            radius = layer.field_px if k == 0 else float(below)  # above the sensor there are no places
            fields = local_fields(rng, *place, n, radius, max(1, stream.learning.stdp.group))
            weight[:below] = fields if layer.gain is None else fields * np.float32(layer.gain)
        elif kind == "edges":
            fields = edge_fields(rng, grid.width, grid.height, grid.planes, n, layer.field_px)
            weight[:below] = fields if layer.gain is None else fields * np.float32(layer.gain / GAIN)
        else:
            weight[:below] = dense_weights(rng, below, n, DENSE_GAIN if layer.gain is None else layer.gain)
        if layer.recurrent:
            loops = dense_weights(own, n, n, layer.recurrent_gain / math.sqrt(layer.recurrent_density))
            loops[own.random((n, n)) >= layer.recurrent_density] = 0
            weight[below:] = loops
    return net


def _layer(layer: Layer, rng: np.random.Generator) -> LayerSpec:
    adaptive = layer.adaptive
    return LayerSpec(
        neurons=layer.neurons,
        tau_mem_ms=_drawn(layer.tau_mem_ms, layer.neurons, rng),
        threshold=layer.threshold,
        reset=layer.reset,
        recurrent=layer.recurrent,
        tau_syn_ms=layer.tau_syn_ms,
        refractory_ms=layer.refractory_ms,
        tau_adapt_ms=adaptive.tau_ms if adaptive else 0.0,
        jump=adaptive.jump if adaptive else None,
        delay_ms=_drawn(layer.delay_ms, layer.neurons, rng),
    )


def _drawn(value: float | list[float], n: int, rng: np.random.Generator) -> float | NDArray[np.float64]:
    """One value for all, or one for each neuron drawn evenly between two bounds."""
    return rng.uniform(value[0], value[1], n) if isinstance(value, list) else value
