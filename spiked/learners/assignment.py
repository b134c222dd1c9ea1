"""A head that names neurons: each belongs to the classes that it answers to (Diehl & Cook 2015).

The features learn without labels; the few labels that arrive only say what a neuron stands for. The head keeps the
sum of every neuron's responses to every class (the value of its spike trace when a labelled window closes)::

    hard    score_k = mean of the traces of the neurons whose mean response to k is their largest
    soft    score_k = sum_j x_j log r_kj - r_kj,    r_kj = (sum of j's responses to k + 1/2) / (examples of k + 1)

`hard` is Diehl & Cook's, for neurons that each stand for one class: whole digits, competing. `soft` takes the mean
responses for rates of a Poisson process and gives the log-likelihood of what is seen: a neuron counts for every class
as far as it tells them apart, so local features that all classes share can be used. Both follow a label in O(H), and
neither depends on the order of the classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiked.learners.jit import kernel


class Assignment(NamedTuple):
    """What the neurons answered to: K classes, H neurons.

    Attributes
    ----------
    examples : float64[K]; labelled windows of each class.
    response : float64[K, H]; sum of the responses to them.
    """

    examples: NDArray[np.float64]
    response: NDArray[np.float64]


def make_assignment(n_neurons: int, n_classes: int) -> Assignment:
    """Build a head that has seen nothing."""
    return Assignment(np.zeros(n_classes), np.zeros((n_classes, n_neurons)))


def grow_assignment(head: Assignment, n_classes: int) -> Assignment:
    """Build the same head with room for more classes."""
    extra = n_classes - len(head.examples)
    return Assignment(
        np.concatenate([head.examples, np.zeros(extra)]),
        np.concatenate([head.response, np.zeros((extra, head.response.shape[1]))]),
    )


def assigned(head: Assignment) -> NDArray[np.int64]:
    """The class that each neuron answers to most, int64[H]; -1 for a neuron that has answered to none."""
    mean = head.response / np.maximum(1.0, head.examples)[:, None]
    return np.where(mean.max(axis=0, initial=0.0) > 0, mean.argmax(axis=0), -1)


@kernel
def assign_example(head, x, label):  # type: ignore[no-untyped-def]
    """Take in one labelled window: responses `x` float[H] to class `label`."""
    head.examples[label] += 1.0
    response = head.response[label]
    for j in range(len(x)):
        response[j] += x[j]


@kernel
def assignment_score(head, x, soft, out):  # type: ignore[no-untyped-def]
    """Score each class into `out` float64[K]; a class never seen scores below all others.

    Ties between classes are the first's, as `argmax` has it.
    """
    n_classes, n = head.response.shape
    for k in range(n_classes):
        out[k] = 0.0
    if soft:
        for k in range(n_classes):
            if head.examples[k] > 0.0:
                out[k] = _likelihood(head.response[k], head.examples[k], x)
    else:
        members = np.zeros(n_classes)
        for j in range(n):
            best, top = -1, 0.0
            for k in range(n_classes):
                if head.examples[k] > 0.0 and head.response[k, j] > top * head.examples[k]:
                    best, top = k, head.response[k, j] / head.examples[k]
            if best >= 0:
                members[best] += 1.0
                out[best] += x[j]
        for k in range(n_classes):
            out[k] /= max(1.0, members[k])
    lowest = 0.0
    for k in range(n_classes):
        lowest = min(lowest, out[k])
    for k in range(n_classes):
        if head.examples[k] == 0.0:
            out[k] = lowest - 1.0 - abs(lowest)  # below it in float32 too


@kernel
def _likelihood(response, examples, x):  # type: ignore[no-untyped-def]
    """Log-likelihood of responses `x` where the mean responses are rates, up to a term that all classes share."""
    total = 0.0
    for j in range(len(x)):
        rate = (response[j] + 0.5) / (examples + 1.0)
        total += x[j] * math.log(rate) - rate
    return total
