"""Which rule goes with which network: what is refused, and why.

Each rule is a row of conditions; the first that does not hold is the reason that a user reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from spiked.learners.objectives import PER_STEP
from spiked.learners.rtrl_full import FULL_OPTIMIZERS
from spiked.service.config import ConfigError, Layer, Learning, Network

Condition = tuple[bool, str, str]
"""Whether it holds, the key that is at fault, and what to write instead."""


def parts_of(layer: Layer) -> list[str]:
    """The parts of a layer's neurons that a plain LIF neuron has not."""
    on = {
        "recurrent": layer.recurrent, "adaptive": layer.adaptive is not None, "tau_syn_ms": layer.tau_syn_ms > 0,
        "refractory_ms": layer.refractory_ms > 0, "delay_ms": layer.delay_ms != 0,
        "tau_mem_ms": isinstance(layer.tau_mem_ms, list),
    }  # fmt: skip
    return [name for name, is_on in on.items() if is_on]


def check_rule(place: str, learning: Learning, network: Network) -> None:
    """Raise ConfigError for a rule that cannot learn this network, or not so; `place` is that of ``[learning]``."""
    conditions = {"rtrl": _rtrl, "eprop": _eprop, "none": _none, "stdp": _stdp, "perturbation": _perturbation}[
        learning.rule
    ]
    network_place = place.replace("learning", "network")
    found = itertools.chain(_head(learning, network), conditions(learning, network), _common(learning, network))
    for holds, key, instead in found:
        if not holds:
            where = network_place if key.split(".")[0].split("[")[0] in network.__struct_fields__ else place
            owner: object = network if where == network_place else learning
            for part in key.replace("[", ".").replace("]", "").split("."):
                owner = owner[int(part)] if isinstance(owner, list) else getattr(owner, part)
            shown = str(owner).lower() if isinstance(owner, bool) else repr(owner)
            raise ConfigError(f"{where}.{key}: {shown}{instead}")


def _head(learning: Learning, network: Network) -> Iterator[Condition]:
    rule, head = learning.rule, network.head
    yield (
        rule not in ("rtrl", "eprop", "perturbation") or head == "gradient", "rule",
        f' moves the features under head = "{head}", whose statistics then go stale; use head = "gradient", or '
        'rule = "none"',
    )  # fmt: skip
    yield head != "assignment" or rule == "stdp", "head", ' tells what neurons have learnt: it needs rule = "stdp"'
    yield (
        head != "gradient" or rule not in ("none", "stdp"), "rule",
        ', but head = "gradient" learns by a rule of its own; use "rtrl" or "eprop", or enabled = false',
    )  # fmt: skip


def _none(learning: Learning, network: Network) -> Iterator[Condition]:
    """Features that stay: the head learns from classes."""
    yield learning.objective != "reward", "objective", ' needs a rule that learns from rewards: "rtrl", "eprop", "stdp"'


def _stdp(learning: Learning, network: Network) -> Iterator[Condition]:
    """Layers that learn from their own spikes: plain ones, of weights within the bounds."""
    s = learning.stdp
    for k in s.layers:
        yield k < len(network.layers), "stdp.layers", f"; the layers are 0 to {len(network.layers) - 1}"
        for name in parts_of(network.layers[k]):
            if name != "tau_mem_ms":
                why = ", but a layer that learns by STDP has plain neurons, and homeostatic thresholds (stdp.target_hz)"
                yield False, f"layers[{k}].{name}", why
        yield network.layers[k].weights in ("", "fields"), f"layers[{k}].weights", '; STDP begins from "fields"'
    yield s.w_min < s.w_max, "stdp.w_min", f"; below stdp.w_max, {s.w_max:g}"
    yield (
        s.rule != "prototype" or s.modulation == "none",
        "stdp.modulation",
        ' has no pairs to wait for under "prototype"',
    )
    reward = learning.objective == "reward"
    yield learning.objective in ("membrane_ce", "reward"), "objective", " is of gradients; leave it out"
    yield not reward or s.modulation == "reward", "objective", ' needs stdp.modulation = "reward"'
    yield learning.update == "window", "update", ", but STDP has an update of its own; leave it out"


def _rtrl(learning: Learning, network: Network) -> Iterator[Condition]:
    recurrent = any(layer.recurrent for layer in network.layers)
    if recurrent:
        yield from _full(learning, network)
    elif learning.update == "step":
        yield from _each_step(learning, network)
    else:
        yield from _windows(learning, network)
    yield recurrent or not learning.sparse_steps, "sparse_steps", '; is for a recurrent layer under rule = "rtrl"'


def _full(learning: Learning, network: Network) -> Iterator[Condition]:
    """The full influence matrix: one recurrent layer and a membrane to read."""
    why = '; the full influence matrix of a recurrent layer knows none: leave it out, or use rule = "eprop"'
    yield len(network.layers) == 1, "layers", ': rule = "rtrl" takes one recurrent layer; use rule = "eprop" for more'
    yield network.layers[0].delay_ms == 0, "layers[0].delay_ms", why
    yield learning.update == "window", "update", ", but the full influence matrix gathers a window's gradient"
    yield (
        learning.objective in ("membrane_ce", "membrane_mse"), "objective",
        '; the full influence matrix goes with "membrane_ce" or "membrane_mse"',
    )  # fmt: skip
    yield learning.feedback == "symmetric", "feedback", '; the full influence matrix is exact: "symmetric"'
    yield (
        learning.optimizer in FULL_OPTIMIZERS, "optimizer",
        f"; the full influence matrix goes with {', '.join(FULL_OPTIMIZERS)}",
    )  # fmt: skip
    yield learning.surrogate != "noisy_spike", "surrogate", why
    yield learning.decays_rate == 0, "decays_rate", why
    yield learning.error_threshold == 0, "error_threshold", why
    yield not _regularised(learning), "regularisers", why
    yield network.decoder == "membrane", "decoder", '; the full influence matrix is read by its membrane: "membrane"'
    yield network.population == 1, "population", why


def _each_step(learning: Learning, network: Network) -> Iterator[Condition]:
    """The lazy form, exact at every step, of plain layers."""
    why = ', but update = "step" is exact for plain layers of one decay alone; leave it out, or use update = "window"'
    for k, layer in enumerate(network.layers):
        for name in parts_of(layer):
            yield False, f"layers[{k}].{name}", why
    known = learning.objective in PER_STEP and learning.objective != "reward"
    yield known, "objective", ', which is known at a window\'s end, does not go with update = "step"'
    yield learning.optimizer == "sgd", "optimizer", ' needs whole windows; update = "step" goes with "sgd"'
    yield (
        learning.feedback in ("symmetric", "random", "direct"), "feedback",
        ' needs whole windows; update = "step" goes with "symmetric", "random" or "direct"',
    )  # fmt: skip
    yield learning.surrogate != "noisy_spike", "surrogate", ' needs update = "window"'
    yield learning.decays_rate == 0, "decays_rate", '; decays learn with update = "window"'
    yield learning.error_threshold == 0, "error_threshold", '; needs update = "window"'
    yield not _regularised(learning), "regularisers", '; need update = "window"'
    yield network.decoder in ("membrane", "rate"), "decoder", ' needs update = "window"'
    yield network.population == 1, "population", '; needs update = "window"'


def _regularised(learning: Learning) -> bool:
    r = learning.regularisers
    return r.l1 > 0 or r.upper > 0 or r.lower > 0


def _perturbation(learning: Learning, network: Network) -> Iterator[Condition]:
    """Two or three copies side by side, judged by the cross entropy of their membranes."""
    yield learning.update == "window", "update", ", but a perturbation is judged by a window's loss"
    yield not network.outputs, "rule", " is judged by classes; outputs need a gradient"
    yield learning.objective == "membrane_ce", "objective", '; a perturbation is judged by "membrane_ce"'
    yield learning.feedback == "symmetric", "feedback", ": a perturbation has none; leave it out"
    yield learning.optimizer in ("rms", "sgd"), "optimizer", ": a perturbation has none; leave it out"
    yield learning.decays_rate == 0, "decays_rate", "; a perturbation moves weights alone"
    yield learning.error_threshold == 0, "error_threshold", "; a perturbation is not triggered by errors"
    yield not _regularised(learning), "regularisers", "; a perturbation knows none"


def _eprop(learning: Learning, network: Network) -> Iterator[Condition]:
    yield learning.update == "window", "update", ', but e-prop gathers a window\'s gradient; use "window"'
    yield not learning.sparse_steps, "sparse_steps", '; e-prop keeps no influence of other neurons; use rule = "rtrl"'
    yield from _windows(learning, network)


def _windows(learning: Learning, network: Network) -> Iterator[Condition]:
    """Eligibility traces, a window at a time: anything but what contradicts itself."""
    yield (
        learning.feedback != "local" or learning.objective in ("membrane_ce", "membrane_mse"), "feedback",
        ' has an error at each step: it goes with objective = "membrane_ce" or "membrane_mse"',
    )  # fmt: skip
    yield (
        learning.objective != "reward" or not _regularised(learning), "regularisers",
        "; a reward multiplies all that a window gathers, so they would pull both ways",
    )  # fmt: skip


def _common(learning: Learning, network: Network) -> Iterator[Condition]:
    gradient = network.head == "gradient"
    yield (
        not network.outputs or learning.objective == "membrane_mse", "objective",
        ' is for classes; outputs go with "membrane_mse"',
    )  # fmt: skip
    yield network.outputs == 0 or network.population == 1, "population", " neurons a class, but outputs has no classes"
    yield network.population == 1 or gradient, "population", '; several outputs a class need head = "gradient"'
    yield network.decoder == "membrane" or gradient, "decoder", ' reads the outputs of head = "gradient"'
    yield learning.feedback == "symmetric" or gradient, "feedback", ' goes down from head = "gradient"'
    yield network.decoder != "population" or network.population > 1, "decoder", " needs population = 2 or more"
    yield network.decoder == "membrane" or not network.outputs, "decoder", ' is for classes; outputs go with "membrane"'
