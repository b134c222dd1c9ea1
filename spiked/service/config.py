"""The configuration: one validated section per TOML table. `configfile` reads and checks a file against it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1, le=1 << 53)]
Whole = Annotated[int, Meta(ge=0, le=1 << 53)]
Connections = Annotated[int, Meta(ge=1, le=10_000)]


def default_state_dir() -> str:
    """Where state is kept: systemd's ``STATE_DIRECTORY``, else XDG's place."""
    if os.environ.get("STATE_DIRECTORY"):
        return os.environ["STATE_DIRECTORY"].split(":")[0]
    return str(Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "spiked")


class ConfigError(ValueError):
    """A configuration that cannot be used: one line with the place, the value and what is allowed."""


class Section(Struct, forbid_unknown_fields=True):
    """A table of the configuration."""


class Daemon(Section):
    """``[daemon]``: the process."""

    state_dir: Annotated[str, Meta(min_length=1)] = field(default_factory=default_state_dir)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"


class Ingest(Section):
    """``[ingest]``: where events come in."""

    endpoint: str = "tcp://127.0.0.1:5570"
    mode: Literal["pull", "sub"] = "pull"
    max_message_mb: Annotated[float, Meta(gt=0, le=1024)] = 8.0
    queue_messages: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    queue_mb: Annotated[float, Meta(gt=0, le=65536)] = 64.0
    max_connections: Connections = 16
    max_lag_ms: NotNegative = 0.0


class Predictions(Section):
    """``[predictions]``: where predictions leave, and how often in stream time."""

    endpoint: str = "tcp://127.0.0.1:5571"
    every_ms: Positive = 10.0
    queue_messages: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    max_connections: Connections = 32


class Control(Section):
    """``[control]``: requests and answers."""

    endpoint: str = "tcp://127.0.0.1:5572"
    max_connections: Connections = 16


class Metrics(Section):
    """``[metrics]``: HTTP for Prometheus and health checks."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9570
    max_connections: Connections = 32


class Security(Section):
    """``[security]``: who may speak to the daemon."""

    curve: bool = False
    server_secret_key_file: str = ""
    authorized_keys_dir: str = ""
    allow_insecure: bool = False


class Adaptive(Section):
    """``adaptive`` of a layer: a threshold that rises with each spike (Eq. 51-52), coupled where `jump` is left out."""

    tau_ms: Positive
    jump: NotNegative | None = None


class Layer(Section):
    """One entry of ``network.layers``."""

    neurons: Annotated[int, Meta(ge=1, le=1 << 20)] = 256
    tau_mem_ms: Positive | Annotated[list[Positive], Meta(min_length=2, max_length=2)] = 20.0
    threshold: Positive = 1.0
    reset: Literal["subtract", "zero"] = "subtract"
    weights: Literal["edges", "dense", "fields", ""] = ""
    field_px: NotNegative = 0.0
    gain: Positive | None = None
    recurrent: bool = False
    recurrent_gain: NotNegative = 0.3
    recurrent_density: Annotated[float, Meta(gt=0, le=1)] = 1.0
    tau_syn_ms: NotNegative = 0.0
    refractory_ms: NotNegative = 0.0
    adaptive: Adaptive | None = None
    delay_ms: NotNegative | Annotated[list[NotNegative], Meta(min_length=2, max_length=2)] = 0.0


class Network(Section):
    """``[network]``: feature layers and a head."""

    layers: Annotated[list[Layer], Meta(min_length=1)] = field(default_factory=lambda: [Layer()])
    classes: list[Annotated[str, Meta(min_length=1, max_length=64)]] = field(default_factory=list)
    outputs: Whole = 0
    max_classes: Annotated[int, Meta(ge=1, le=4096)] = 64
    head: Literal["discriminant", "gradient", "prototype", "assignment"] = "discriminant"
    decoder: Literal["rate", "latency", "population", "membrane"] = "membrane"
    population: Count = 1
    trace_ms: Annotated[list[Positive], Meta(min_length=1)] = field(
        default_factory=lambda: [20.0, 50.0, 100.0, 200.0, 400.0]
    )
    ridge: Positive = 5.0
    tau_out_ms: Positive = 100.0
    seed: Whole = 0


class Regularisers(Section):
    """``regularisers`` of ``[learning]``: strengths (0: off) and bounds of activity (Eq. 39-41)."""

    l1: NotNegative = 0.0
    upper: NotNegative = 0.0
    upper_hz: NotNegative = 50.0
    upper_power: Annotated[int, Meta(ge=1, le=2)] = 2
    lower: NotNegative = 0.0
    lower_hz: NotNegative = 1.0


class Stdp(Section):
    """``stdp`` of ``[learning]``: the rule of spike times, its bounds, and who learns."""

    rule: Literal["pair", "triplet", "prototype"] = "pair"
    pairing: Literal["all", "nearest"] = "nearest"
    a_plus: NotNegative = 1.0
    a_minus: Annotated[float, Meta(le=0)] = -0.8
    tau_plus_ms: Positive = 20.0
    tau_minus_ms: Positive = 20.0
    a_triplet: NotNegative = 1.0
    tau_triplet_ms: Positive = 100.0
    x_target: NotNegative = 0.5
    bounds: Literal["hard", "soft"] = "hard"
    w_min: float = 1e-4
    w_max: float = 1.0
    mu: NotNegative = 1.0
    norm: Literal["none", "sum", "l2"] = "none"
    winners: Whole = 0
    group: Whole = 0
    inhibit: bool = False
    compete: Literal["fire", "learn"] = "fire"
    target_hz: NotNegative = 0.0
    theta_rise: NotNegative = 0.01
    theta_max: Positive = 20.0
    modulation: Literal["none", "reward", "error"] = "none"
    tau_eligibility_ms: Positive = 500.0
    reward_windows: Positive = 50.0
    error_threshold: NotNegative = 0.5
    settle_windows: Whole = 150
    assignment: Literal["hard", "soft"] = "soft"
    layers: Annotated[list[Whole], Meta(min_length=1)] = field(default_factory=lambda: [0])


class Learning(Section):
    """``[learning]``: how the network learns. `rule` follows from the head where it is not given."""

    rule: Literal["rtrl", "eprop", "stdp", "perturbation", "none", ""] = ""
    objective: Literal[
        "membrane_ce", "membrane_mse", "rate_ce", "rate_mse", "max_membrane", "sum_membrane", "latency_ce",
        "spike_time_mse", "relative_time_mse", "reward",
    ] = "membrane_ce"  # fmt: skip
    surrogate: Literal["fast_sigmoid", "sigmoid", "triangular", "spike", "noisy_spike"] = "fast_sigmoid"
    surrogate_slope: NotNegative | None = None
    feedback: Literal["symmetric", "random", "direct", "adaptive", "local"] = "symmetric"
    update: Literal["window", "step"] = "window"
    optimizer: Literal["sgd", "rms", "momentum", "bounded"] = "rms"
    rate: NotNegative = 2e-3
    decays_rate: NotNegative = 0.0
    error_threshold: NotNegative = 0.0
    regularisers: Regularisers = field(default_factory=Regularisers)
    sparse_steps: Whole = 0
    influence_mb: Annotated[float, Meta(gt=0, le=65536)] = 256.0
    stdp: Stdp = field(default_factory=Stdp)
    perturbation: Literal["gradient", "accept"] = "gradient"
    perturbation_size: Positive = 0.02
    window_ms: Positive = 500.0
    memory_ms: NotNegative = 2000.0
    enabled: bool = True


class Memory(Section):
    """``[memory]``: methods against forgetting, beyond what the head brings, and the settings of each."""

    methods: list[Literal["average", "cascade", "copies", "drift", "ewc", "novelty", "pseudo", "replay", "si"]] = field(
        default_factory=list
    )
    average_windows: Annotated[float, Meta(ge=1)] = 50.0
    replay_windows: Annotated[int, Meta(ge=1, le=64)] = 4
    budget_mb: Annotated[float, Meta(ge=0.01, le=1024)] = 4.0
    ewc_strength: NotNegative = 50.0
    si_strength: NotNegative = 0.003
    cascade_levels: Annotated[int, Meta(ge=2, le=12)] = 6
    cascade_coupling: NotNegative = 0.003
    novelty_power: NotNegative = 1.0
    novelty_most: Annotated[float, Meta(ge=1)] = 3.0
    pseudo_windows: Annotated[int, Meta(ge=0, le=64)] = 2
    copies_px: Annotated[list[Count], Meta(max_length=3)] = field(default_factory=lambda: [1])
    copies_drawn: Annotated[int, Meta(ge=0, le=64)] = 0
    copies_vote: bool = False
    exam_mb: Annotated[float, Meta(ge=0, le=1024)] = 2.0
    exam_every: Count = 4
    on_harm: Literal["freeze", "slow", "report"] = "freeze"


class Checkpoint(Section):
    """``[checkpoint]``: how often, and how many are kept."""

    every_s: Positive = 60.0
    keep: Count = 5
    on_stop: bool = True


class Stream(Section):
    """``[[stream]]``: one sensor. Its `network`, `learning` and `memory` are complete after loading."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]
    width: Annotated[int, Meta(ge=1, le=32768)]
    height: Annotated[int, Meta(ge=1, le=32768)]
    planes: Annotated[int, Meta(ge=1, le=2)] = 2
    dt_ms: Annotated[float, Meta(ge=0.001, le=1000)] = 1.0
    downsample: Count = 1
    count: Literal["binary", "sum", "clip"] = "binary"
    threshold: Count = 1
    clip_at: Count = 4
    refractory_us: Whole = 0
    jitter_us: Whole = 1000
    late: Literal["drop", "clamp"] = "drop"
    hot_pixel_hz: NotNegative = 0.0
    network: Network = field(default_factory=Network)
    learning: Learning = field(default_factory=Learning)
    memory: Memory = field(default_factory=Memory)


class Config(Section, kw_only=True):
    """A whole configuration file."""

    daemon: Daemon = field(default_factory=Daemon)
    ingest: Ingest = field(default_factory=Ingest)
    predictions: Predictions = field(default_factory=Predictions)
    control: Control = field(default_factory=Control)
    metrics: Metrics = field(default_factory=Metrics)
    security: Security = field(default_factory=Security)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    network: Network = field(default_factory=Network)
    learning: Learning = field(default_factory=Learning)
    memory: Memory = field(default_factory=Memory)
    stream: Annotated[list[Stream], Meta(min_length=1)]
