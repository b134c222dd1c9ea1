"""Streaming linear discriminant analysis: a head whose statistics do not depend on the order of the data.

It keeps each class's mean and the scatter within classes, S (LEARNING: "order-free statistics"). With
``P = (S + lam I)^-1`` the score of class k is that of a Gaussian with a shared covariance::

    score_k(x) = t (x . A_k - mu_k . A_k / 2),    A_k = P mu_k

A labelled example is a change of S by one rank, so P and all A_k follow it in O(D^2 + D K), with no matrix to solve
(Sherman-Morrison, float64, P kept as a packed lower triangle). Learning a class at a time ends where learning them
shuffled ends. With an empty P the head is the nearest class mean (``"prototype"``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.dynamics import copy
from spiked.learners.jit import kernel

PASSING = ("direction", "nearest")
"""Of the statistics, what nothing in the future depends on."""


class Discriminant(NamedTuple):
    """The head's statistics for K classes of D features.

    Attributes
    ----------
    examples : float64[K]; how many of each class.
    mean : float64[K, D].
    weight : float64[K, D]; A = P mu.
    bias : float64[K]; -mu . A / 2.
    precision : float64[D (D + 1) / 2], lower triangle by rows; empty for the nearest class mean.
    direction : float64[D]; room for P dx.
    nearest : float64[1]; squared distance of the last example to the nearest class mean, as it was before it was taken
        in: (x - mu_k) . P (x - mu_k), times the number of examples. Of a class's first example there is none.
    """

    examples: NDArray[np.float64]
    mean: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    precision: NDArray[np.float64]
    direction: NDArray[np.float64]
    nearest: NDArray[np.float64]


def make_discriminant(n_features: int, n_classes: int, ridge: float, whiten: bool = True) -> Discriminant:
    """Build a head that has seen nothing; `ridge` is lam, in units of a feature squared."""
    precision = np.zeros(n_features * (n_features + 1) // 2 if whiten else 0)
    if whiten:
        rows = np.arange(n_features)
        precision[rows * (rows + 1) // 2 + rows] = 1.0 / ridge
    return Discriminant(
        examples=np.zeros(n_classes),
        mean=np.zeros((n_classes, n_features)),
        weight=np.zeros((n_classes, n_features)),
        bias=np.zeros(n_classes),
        precision=precision,
        direction=np.zeros(n_features),
        nearest=np.zeros(1),
    )


def grow_discriminant(head: Discriminant, n_classes: int) -> Discriminant:
    """Build the same head with room for more classes."""
    extra = n_classes - len(head.examples)
    return head._replace(
        examples=np.concatenate([head.examples, np.zeros(extra)]),
        mean=np.concatenate([head.mean, np.zeros((extra, head.mean.shape[1]))]),
        weight=np.concatenate([head.weight, np.zeros((extra, head.mean.shape[1]))]),
        bias=np.concatenate([head.bias, np.zeros(extra)]),
    )


def fade(head: Discriminant, share: float) -> None:
    """Let all that was learnt count for `share` of what it did: S, lam with it, and the number of examples.

    The scores do not move: they are the same for any common factor.
    """
    head.examples[:] *= share
    if len(head.precision):
        for array in (head.weight, head.bias, head.precision):
            array[...] /= share


@kernel
def _times_precision(precision, x, out):  # type: ignore[no-untyped-def]
    """``out = P x`` from the packed triangle."""
    if len(precision) == 0:
        copy(out, x)
        return
    out[:] = 0.0
    at = 0
    for i in range(len(x)):
        row = precision[at : at + i]
        total = precision[at + i] * x[i]
        xi = x[i]
        for j in range(i):  # the sum on its own: see `jit.kernel`
            total += row[j] * x[j]
        for j in range(i):
            out[j] += row[j] * xi
        out[i] += total
        at += i + 1


@kernel
def _nearest(head, dx, u, label):  # type: ignore[no-untyped-def]
    """Squared distance to the nearest class, from ``dx = x - mu`` of one class and ``u = P dx``, in O(K D).

    With ``e = mu_label - mu_k`` and ``P e = A_label - A_k``: (dx + e) . P (dx + e).
    """
    own, least, total = 0.0, 0.0, 0.0
    for i in range(len(dx)):
        own += dx[i] * u[i]
    for k in range(len(head.examples)):
        total += head.examples[k]
        if head.examples[k] > 0.0:
            more = 0.0
            for i in range(len(dx)):
                e = head.mean[label, i] - head.mean[k, i]
                more += (2.0 * dx[i] + e) * (head.weight[label, i] - head.weight[k, i])
            least = min(least, more)
    return (own + least) * total


@kernel
def learn_example(head, x, label):  # type: ignore[no-untyped-def]
    """Take in one example: features `x` float64[D] of class `label`."""
    n = head.examples[label]
    mean, weight, u = head.mean[label], head.weight[label], head.direction
    d = len(x)
    if n == 0.0:
        head.nearest[0] = 0.0
        copy(mean, x)
        _times_precision(head.precision, x, weight)
    else:
        for i in range(d):
            x[i] -= mean[i]
        _times_precision(head.precision, x, u)
        head.nearest[0] = _nearest(head, x, u, label)
        step = 1.0
        if len(head.precision) > 0:
            norm = (n + 1.0) / n
            for i in range(d):
                norm += x[i] * u[i]
            at = 0
            for i in range(d):
                row = head.precision[at : at + i + 1]
                f = u[i] / norm
                for j in range(i + 1):
                    row[j] -= f * u[j]
                at += i + 1
            for k in range(len(head.examples)):
                if head.examples[k] > 0.0:
                    a = head.weight[k]
                    along = 0.0
                    for i in range(d):
                        along += x[i] * a[i]
                    along /= norm
                    for i in range(d):
                        a[i] -= along * u[i]
            step = (n + 1.0) / n / norm  # P' dx = u (1/g) / (1/g + dx.u)
        for i in range(d):
            mean[i] += x[i] / (n + 1.0)
            weight[i] += u[i] * step / (n + 1.0)
    head.examples[label] = n + 1.0
    for k in range(len(head.examples)):
        total = 0.0
        for i in range(d):
            total += head.mean[k, i] * head.weight[k, i]
        head.bias[k] = -0.5 * total


@kernel
def score(head, x, out):  # type: ignore[no-untyped-def]
    """Log-likelihood of each class, up to a constant; a class never seen scores below all others."""
    total = 0.0
    lowest = 0.0
    whiten = len(head.precision) > 0
    for k in range(len(out)):
        total += head.examples[k]
    scale = max(1.0, total) if whiten else 1.0
    for k in range(len(out)):
        if head.examples[k] > 0.0:
            s = head.bias[k]
            for i in range(len(x)):
                s += x[i] * head.weight[k, i]
            out[k] = s * scale
            lowest = min(lowest, out[k])
    for k in range(len(out)):
        if head.examples[k] == 0.0:
            out[k] = lowest - 1.0 - abs(lowest)  # below it in float32 too
