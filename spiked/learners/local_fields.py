"""First weights of a layer that learns by STDP: non-negative, local, random.

Like `receptive.edge_fields`, a neuron looks at one place of the sensor; unlike those, nothing inhibits. Within a disc
of radius `field_px`, each plane's weights are drawn evenly from ``spread``; outside they are 0, which to `stdp` is a
synapse that is not there. Neurons of one group share their place: they compete for what happens there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spiked.learners.receptive import field_size


def local_fields(
    rng: np.random.Generator,
    width: int,
    height: int,
    planes: int,
    neurons: int,
    field_px: float = 0.0,
    group: int = 1,
    spread: tuple[float, float] = (0.2, 0.8),
) -> NDArray[np.float32]:
    """Random non-negative local weights.

    Parameters
    ----------
    rng : source of the places and weights.
    width, height, planes : the channels' geometry; channel = plane * width * height + y * width + x.
    neurons : how many.
    field_px : radius of the disc, in channels; 0 takes twice `receptive.field_size`.
    group : consecutive neurons that share a place.
    spread : bounds of the weights.

    Returns
    -------
    float32[planes * height * width, neurons]
    """
    radius = field_px or 2 * field_size(width, height)
    places = -(-neurons // max(1, group))
    cx = rng.uniform(0, width - 1, places) if width > 1 else np.zeros(places)
    cy = rng.uniform(0, height - 1, places) if height > 1 else np.zeros(places)
    weight = np.zeros((planes, height, width, neurons), np.float32)
    x, y = np.arange(width), np.arange(height)
    for j in range(neurons):
        place = j // max(1, group)
        near = (x - cx[place])[None, :] ** 2 + (y - cy[place])[:, None] ** 2 <= max(radius, 0.5) ** 2
        weight[:, :, :, j] = np.where(near, rng.uniform(*spread, (planes, height, width)), 0)
    return np.ascontiguousarray(weight.reshape(-1, neurons))
