"""Results do not depend on where arrays lie in memory: close together, in any order, or far apart.

A loop that is compiled in order and vectorised runs as one or the other by how near its arrays are to each other; a
difference in rounding shows nowhere else, and there rarely (`jit.kernel` says what brings it about).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gradient_cases
import numpy as np
import pytest

from spiked.learners.gradient import GradientLearner
from spiked.learners.trials import stream_for

pytestmark = pytest.mark.timeout(900)  # the first test may have to compile

FAR = 1 << 12


def laid(fields: dict[str, Any], rng: np.random.Generator, gap: int | None) -> dict[str, Any]:
    """Copies of the arrays among `fields` in one piece of memory, in random order, `gap` bytes (None: a few) apart."""
    names = [name for name, value in fields.items() if isinstance(value, np.ndarray)]
    rng.shuffle(names)
    memory, at, out = np.zeros(sum(fields[n].nbytes + 2 * FAR for n in names) + FAR, np.uint8), 0, dict(fields)
    for name in names:
        array = fields[name]
        at += int(rng.integers(0, 5)) * 16 if gap is None else gap
        at += -at % 16
        place = memory[at : at + array.nbytes].view(array.dtype).reshape(array.shape)
        place[...] = array
        out[name], at = place, at + array.nbytes
    return out


def lay(learner: GradientLearner, seed: int, gap: int | None) -> GradientLearner:
    """Move all that a step touches into one piece of memory."""
    rng = np.random.default_rng(seed)
    live = learner._live
    parts: dict[str, NamedTuple] = {"net": learner.net, "state": live.state, "eli": live.eli, "window": live.window}
    parts |= {"work": live.work, "decays": live.decays, "dec": live.dec}
    fields = {f"{part}.{name}": value for part, t in parts.items() for name, value in t._asdict().items()}
    moved = laid(fields, rng, gap)
    new = {part: t._replace(**{name: moved[f"{part}.{name}"] for name in t._fields}) for part, t in parts.items()}
    learner.net = new.pop("net")
    learner._live = live._replace(**new)
    return learner


@pytest.mark.parametrize("kind", ["plain", "current", "recurrent-adaptive", "all"])
@pytest.mark.parametrize("extra", [{}, {"optimizer": "rms", "decays_rate": 0.1, "objective": "rate_ce"}])
def test_a_learner_computes_the_same_bits_wherever_its_arrays_lie(kind: str, extra: dict[str, Any]) -> None:
    def build() -> GradientLearner:
        return gradient_cases.build(dtype=np.float32, rate=0.005, kind=kind, spread=0.5, **extra)

    want = lay(build(), 0, FAR)
    steps, cues = stream_for(want, np.random.default_rng(0))
    want.run(steps, cues)
    for seed in range(12):
        near = lay(build(), seed, None)
        near.run(steps, cues)
        for name, array in want.state().items():
            assert array.tobytes() == near.state()[name].tobytes(), f"order {seed}: {name}"
