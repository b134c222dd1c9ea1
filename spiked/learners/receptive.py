"""How weights begin: local edge detectors for the first layer, dense random ones above it.

A neuron of the first layer looks at one place of the sensor, through a Gaussian window of `field_px` pixels times an
edge in a random direction, drawn for each polarity on its own::

    W[p, y, x, j] = (dx cos a + dy sin a) / s * exp(-(dx^2 + dy^2) / (2 s^2)),   |dx|, |dy| <= 3 s

and scaled to an L2 norm of `GAIN`, so that one threshold serves any sensor (measured on N-MNIST: gains from 1 to 8
are within 0.3 points of each other). Where a moving contrast crosses that place, one
side excites and the other inhibits: the neuron answers to a direction of change, not to mere activity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FIELD_FRACTION = 0.09  # of the sensor's longer side: 3 px of 34; 2 to 3.5 px are as good
GAIN = 3.0
MIN_FIELD_PX = 1.0


def field_size(width: int, height: int) -> float:
    """Radius (standard deviation) of the window for a sensor of that size, in pixels."""
    return max(MIN_FIELD_PX, FIELD_FRACTION * max(width, height))


def edge_fields(
    rng: np.random.Generator, width: int, height: int, planes: int, neurons: int, field_px: float = 0.0
) -> NDArray[np.float32]:
    """Random local edge detectors.

    Parameters
    ----------
    rng : source of the places and directions.
    width, height, planes : the channels' geometry; channel = plane * width * height + y * width + x.
    neurons : how many.
    field_px : standard deviation of the window, in channels; 0 takes `field_size`.

    Returns
    -------
    float32[planes * height * width, neurons]
    """
    s = field_px or field_size(width, height)
    cx = rng.uniform(0, width - 1, neurons) if width > 1 else np.zeros(neurons)
    cy = rng.uniform(0, height - 1, neurons) if height > 1 else np.zeros(neurons)
    weight = np.zeros((planes, height, width, neurons), np.float32)
    x, y = np.arange(width), np.arange(height)
    for j in range(neurons):
        dx, dy = (x - cx[j])[None, :], (y - cy[j])[:, None]
        window = np.exp(-(dx**2 + dy**2) / (2 * s * s)) * ((abs(dx) <= 3 * s) & (abs(dy) <= 3 * s))
        for p in range(planes):
            angle = rng.uniform(0, 2 * np.pi)
            weight[p, :, :, j] = (dx * np.cos(angle) + dy * np.sin(angle)) / s * window
    flat = weight.reshape(-1, neurons)
    norm = np.linalg.norm(flat, axis=0)
    return np.ascontiguousarray(flat * (GAIN / np.where(norm > 0, norm, 1)))


def dense_weights(rng: np.random.Generator, n_in: int, n_out: int, scale: float = 1.0) -> NDArray[np.float32]:
    """Gaussian weights of standard deviation ``scale / sqrt(n_in)``, float32[n_in, n_out]."""
    return (rng.standard_normal((n_in, n_out)) * scale / np.sqrt(n_in)).astype(np.float32)
