"""From a stream's configuration to its binner and its learner."""

from __future__ import annotations

import math

import numpy as np

from spiked.io.binner import BinnerSpec
from spiked.io.events import Geometry
from spiked.learners.fixed import FixedLearner, FixedSpec
from spiked.learners.lif import LayerSpec, layer_weight, make_lif
from spiked.learners.receptive import dense_weights, edge_fields
from spiked.learners.rtrl import RtrlLearner, RtrlSpec
from spiked.service.config import Stream

AnyLearner = FixedLearner | RtrlLearner


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

    `n_classes` takes the place of the configuration's own number of classes.
    """
    network, learning = stream.network, stream.learning
    spec = binner_spec(stream)
    grid, rng = spec.grid, np.random.default_rng(network.seed)
    layers = [LayerSpec(layer.neurons, layer.tau_mem_ms, layer.threshold, layer.reset) for layer in network.layers]
    n_out = network.outputs or (len(network.classes) if n_classes is None else n_classes)
    gradient = network.head == "gradient"
    if gradient:
        fires = learning.objective == "rate_ce" or network.decoder == "rate"
        layers.append(LayerSpec(max(1, n_out), network.tau_out_ms, 1.0 if fires else math.inf))
    net = make_lif(spec.n_channels, layers, stream.dt_ms)
    first = network.layers[0]
    layer_weight(net, 0)[...] = edge_fields(rng, grid.width, grid.height, grid.planes, first.neurons, first.field_px)
    for k in range(1, len(network.layers)):
        layer_weight(net, k)[...] = dense_weights(rng, int(net.sizes[k]), int(net.sizes[k + 1]), 2.0)
    if not gradient:
        fixed = FixedSpec(network.head, tuple(network.trace_ms), network.ridge)
        return FixedLearner(net, n_out, fixed, stream.dt_ms)
    return RtrlLearner(
        net,
        RtrlSpec(
            objective=learning.objective,
            surrogate=learning.surrogate,
            surrogate_slope=learning.surrogate_slope,
            feedback=learning.feedback,
            update=learning.update,
            optimizer=learning.optimizer,
            rate=learning.rate,
            decoder=network.decoder,
            decoder_tau_ms=max(network.trace_ms),
        ),
        stream.dt_ms,
        network.seed,
    )
