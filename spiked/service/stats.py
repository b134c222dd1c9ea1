"""What is counted at each arrow of the path. Plain numbers: Prometheus reads them only when it scrapes (`metrics`)."""

from __future__ import annotations

import bisect
import time
from typing import Any

import numpy as np

BUCKETS_S = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 1.0)
ACCURACY_WINDOW = 100
"""Test-then-train accuracy is an exponential mean over about so many labelled windows."""


class Histogram:
    """Counts by bucket; `observe` may stand for many equal observations."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count `times` observations of `seconds`."""
        self.counts[bisect.bisect_left(BUCKETS_S, seconds)] += times
        self.sum += seconds * times

    def cumulative(self) -> list[tuple[str, float]]:
        """Buckets as Prometheus wants them: upper edge and how many at or below."""
        total, out = 0, []
        for edge, count in zip([*(str(b) for b in BUCKETS_S), "+Inf"], self.counts):
            total += count
            out.append((edge, float(total)))
        return out


class WireStats:
    """Messages refused, by stream and reason, and the last refusal in words."""

    def __init__(self) -> None:
        self.rejected: dict[tuple[str, str], int] = {}
        self.refused = 0
        self.last_key = ("", "")
        self.last_refusal = ""

    def reject(self, stream: str, reason: str, detail: str) -> None:
        """Count one refusal."""
        self.refused += 1
        self.last_key = stream, reason
        self.rejected[stream, reason] = self.rejected.get((stream, reason), 0) + 1
        self.last_refusal = f"{stream}: {reason}: {detail}"


class StreamStats:
    """Counts of one stream."""

    clock = staticmethod(time.perf_counter)

    def __init__(self, n_layers: int) -> None:
        self.events = 0
        self.messages = {"events": 0, "target": 0, "reset": 0}
        self.lost = 0
        self.steps = 0
        self.spikes = np.zeros(n_layers, np.int64)
        self.published = 0
        self.dropped_predictions = 0
        self.predictions: dict[str, int] = {}
        self.targets: dict[str, int] = {}
        self.updates = 0
        self.judged = 0
        self.right = 0
        self.accuracy = float("nan")
        self.class_accuracy: dict[str, float] = {}
        self.class_best: dict[str, float] = {}
        self.loss = float("nan")
        self.step_seconds = Histogram()
        self.latency_seconds = Histogram()
        self.lag_s = 0.0

    def note_sent(self, sent_ns: int) -> None:
        """Take the age of a message, by its sender's clock (0: it has none)."""
        if sent_ns:
            self.lag_s = max(0.0, time.time() - sent_ns * 1e-9)

    def ran(self, steps: int, seconds: float) -> None:
        """Count a compiled call."""
        self.steps += steps
        self.step_seconds.observe(seconds / steps, steps)

    def judge(self, name: str, right: bool, probability: float) -> None:
        """Take a test-then-train result into the running means: the prediction was made before the label was used."""
        self.judged += 1
        self.right += right
        self.accuracy = _toward(self.accuracy, float(right), self.judged)
        seen = self.targets.get(name, 1)
        now = self.class_accuracy[name] = _toward(self.class_accuracy.get(name, float("nan")), float(right), seen)
        if seen >= 10:  # a best of one example would make everything after it forgetting
            self.class_best[name] = max(self.class_best.get(name, 0.0), now)
        self.loss_of(-float(np.log(max(probability, 1e-12))))

    def loss_of(self, loss: float) -> None:
        """Take a window's loss into the running mean."""
        self.loss = _toward(self.loss, loss, max(1, self.judged))

    @property
    def forgetting(self) -> float:
        """Mean over classes of best accuracy minus present accuracy (running means)."""
        if not self.class_best:
            return 0.0
        return float(np.mean([best - self.class_accuracy[name] for name, best in self.class_best.items()]))

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint: what predictions and running means go on from."""
        names = ("events", "lost", "steps", "published", "updates", "judged", "right", "accuracy", "loss")
        tables = ("messages", "predictions", "targets", "class_accuracy", "class_best")
        return {n: _plain(getattr(self, n)) for n in names} | {t: dict(getattr(self, t)) for t in tables}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        for name, value in state.items():
            setattr(self, name, float("nan") if value is None else value)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


def _toward(mean: float, value: float, seen: int) -> float:
    """Exponential mean that is a plain mean while it has seen less than its window."""
    if mean != mean:
        return value
    return mean + (value - mean) / min(max(seen, 1), ACCURACY_WINDOW)
