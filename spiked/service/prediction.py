"""What the daemon says: one prediction, as JSON on the wire."""

from __future__ import annotations

import math
from typing import Any

import msgspec


class Prediction(msgspec.Struct, kw_only=True):
    """A prediction. `t_us` is the end of the last step that counts in it.

    `arrived_s` (when the message came that completed it) and `target` (the label that was on) stay inside.
    """

    stream: str
    seq: int
    t_us: int
    class_: int
    label: str
    confidence: float
    scores: list[float]
    spikes: list[int]
    step: int
    learning: bool
    updates: int
    final: bool
    arrived_s: float
    target: int

    def to_json(self, now_s: float) -> bytes:
        """Encode, with the latency from arrival to `now_s` (the same monotonic clock)."""
        said: dict[str, Any] = {
            "v": 1, "stream": self.stream, "seq": self.seq, "t_us": self.t_us, "class": self.class_,
            "label": self.label, "confidence": round(self.confidence, 6), "scores": self.scores, "spikes": self.spikes,
            "step": self.step, "latency_us": round((now_s - self.arrived_s) * 1e6), "learning": self.learning,
            "updates": self.updates,
        }  # fmt: skip
        if self.class_ < 0:
            said["class"] = said["label"] = None
        if self.final:
            said["final"] = True
        return msgspec.json.encode(said)


def softmax(scores: list[float]) -> list[float]:
    """Probabilities from scores, NaN where they are not finite. Lists: there are few classes, and each message asks."""
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    total = sum(weights)
    return [weight / total for weight in weights]
