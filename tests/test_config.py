"""Configuration: defaults are enough, and an error names the place, the value and what is allowed."""

from __future__ import annotations

import tomllib

import msgspec
import pytest

from spiked.service.configfile import ConfigError, effective_toml, learner_digest, load_config, parse_config

CAM = {"id": "cam0", "width": 8, "height": 6}


def config(stream=CAM, **tables):
    return parse_config({"stream": [stream], **tables})


def test_width_height_and_classes_are_enough(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('[network]\nclasses = ["wave", "fist"]\n[[stream]]\nid = "cam0"\nwidth = 34\nheight = 34\n')
    c = load_config(path)
    s = c.stream[0]
    assert (s.planes, s.dt_ms, s.downsample, s.count, s.late) == (2, 1.0, 1, "binary", "drop")
    assert (s.network.head, s.network.decoder, s.network.trace_ms) == (
        "discriminant",
        "membrane",
        [20, 50, 100, 200, 400],
    )
    assert (s.network.classes, s.learning.rule, s.learning.update, s.learning.enabled) == (
        ["wave", "fist"],
        "none",
        "window",
        True,
    )
    assert (c.ingest.endpoint, c.ingest.mode) == ("tcp://127.0.0.1:5570", "pull")
    assert (c.predictions.endpoint, c.predictions.every_ms) == ("tcp://127.0.0.1:5571", 10)
    assert (c.control.endpoint, c.metrics.host, c.metrics.port) == ("tcp://127.0.0.1:5572", "127.0.0.1", 9570)
    assert (c.security.curve, c.checkpoint.on_stop, c.daemon.log_format) == (False, True, "text")


@pytest.mark.parametrize("head", ["discriminant", "gradient", "prototype"])
def test_the_rule_follows_from_the_head(head):
    assert config(network={"head": head}).stream[0].learning.rule == ("rtrl" if head == "gradient" else "none")


def test_streams_override_what_holds_for_all():
    c = parse_config(
        {
            "network": {"seed": 3, "classes": ["a"], "layers": [{"neurons": 7}]},
            "learning": {"rate": 0.5},
            "stream": [CAM, {**CAM, "id": "cam1", "network": {"seed": 4}, "learning": {"window_ms": 9.0}}],
        }
    )
    one, two = c.stream
    assert (one.network.seed, two.network.seed) == (3, 4)
    assert one.network.layers[0].neurons == two.network.layers[0].neurons == 7
    assert (one.learning.rate, two.learning.rate, one.learning.window_ms, two.learning.window_ms) == (0.5, 0.5, 500, 9)
    two.network.classes.append("b")
    assert one.network.classes == ["a"]


GRADIENT = {"network": {"head": "gradient"}}
ERRORS = [
    ({"networks": {}}, "networks", "'network'"),
    ({"network": {"layer": []}}, "network.layer", "'layers'"),
    ({"network": {"layers": [{"neuron": 5}]}}, "network.layers[0].neuron", "'neurons'"),
    ({"network": {"layers": [{"adaptive": {"tau": 5.0, "jump": 1.0}}]}}, "network.layers[0].adaptive.tau", "'tau_ms'"),
    ({"zzz": 1}, "zzz", "allowed: daemon, ingest"),
    ({"stream": [{**CAM, "wdith": 8}]}, "stream[0].wdith", "'width'"),
    ({"stream": [{**CAM, "network": {"sed": 8}}]}, "stream[0].network.sed", "'seed'"),
    ({"stream": []}, "stream", "none given"),
    ({"stream": CAM}, "stream", "[[stream]]"),
    ({"stream": 3}, "stream", "none given"),
    ({"stream": [{"id": "a", "width": 3}]}, "stream[0]", "`height`"),
    ({"stream": [{**CAM, "width": 0}]}, "stream[0].width", "0", ">= 1"),
    ({"stream": [{**CAM, "width": "8"}]}, "stream[0].width", "'8'", "`int`"),
    ({"stream": [{**CAM, "planes": 3}]}, "stream[0].planes", "3", "<= 2"),
    ({"stream": [{**CAM, "id": "a b"}]}, "stream[0].id", "'a b'"),
    ({"stream": [{**CAM, "id": "a\n"}]}, "stream[0].id"),
    ({"stream": [{**CAM, "id": "a" * 65}]}, "stream[0].id"),
    ({"stream": [{**CAM, "id": ""}]}, "stream[0].id"),
    ({"stream": [CAM, CAM]}, "stream[1].id", "'cam0'"),
    ({"stream": [{**CAM, "id": "unknown"}]}, "stream[0].id", "'unknown'"),
    ({"stream": [{**CAM, "count": "mean"}]}, "stream[0].count", "'mean'", "'binary', 'sum', 'clip'"),
    ({"stream": [{**CAM, "late": "keep"}]}, "stream[0].late", "'keep'", "'drop', 'clamp'"),
    ({"stream": [{**CAM, "dt_ms": 0.0005}]}, "stream[0].dt_ms"),
    ({"stream": [{**CAM, "dt_ms": 1.0005}]}, "stream[0].dt_ms", "1.0005"),
    ({"stream": [{**CAM, "dt_ms": 20.0}]}, "predictions.every_ms", "10", "20.0"),
    ({"stream": [{**CAM, "downsample": 9}]}, "stream[0].downsample", "9"),
    ({"stream": [{**CAM, "clip_at": 1 << 60}]}, "stream[0].clip_at"),
    ({"stream": [{**CAM, "threshold": 0}]}, "stream[0].threshold", "0"),
    ({"network": {"head": "gradent"}}, "network.head", "'gradent'", "'discriminant', 'gradient', 'prototype'"),
    ({"network": 5}, "network", "5"),
    ({"stream": [{**CAM, "network": 5}]}, "stream[0].network", "5"),
    ({"daemon": "x"}, "daemon"),
    ({"network": {"layers": []}}, "network.layers"),
    ({"network": {"layers": [{"neurons": 0}]}}, "network.layers[0].neurons", "0"),
    ({"network": {"classes": ["a", "a"]}}, "network.classes", "twice"),
    ({"network": {"classes": [""]}}, "network.classes[0]"),
    ({"network": {"classes": ["é" * 33]}}, "network.classes[0]", "66 bytes"),
    ({"network": {"classes": ["a", "b"], "max_classes": 1}}, "network.classes", "2", "1"),
    ({"network": {"classes": ["a"], "outputs": 2, "head": "gradient"}}, "network.outputs", "2"),
    ({"network": {"outputs": 2}}, "network.head", "gradient"),
    ({"network": {"outputs": 2, "head": "gradient"}}, "learning.objective", "membrane_ce", "membrane_mse"),
    ({"network": {"decoder": "latency"}}, "network.decoder", "'latency'", "gradient"),
    ({"network": {"population": 4}}, "network.population", "4"),
    (
        {"network": {"layers": [{"tau_mem_ms": [30.0, 10.0]}]}},
        "network.layers[0].tau_mem_ms",
        "[30.0, 10.0]",
        "smaller",
    ),
    ({"network": {"layers": [{}, {"weights": "edges"}]}}, "network.layers[1].weights", "dense"),
    ({"network": {"layers": [{"tau_mem_ms": float("inf")}]}}, "network.layers[0].tau_mem_ms", "inf"),
    ({"learning": {"window_ms": float("inf")}}, "learning.window_ms", "inf"),
    ({"predictions": {"every_ms": float("inf")}}, "predictions.every_ms", "inf"),
    ({"learning": {"rate": float("nan")}}, "learning.rate", "nan"),
    ({"learning": {"rule": "rtrl"}}, "learning.rule", "gradient"),
    ({"learning": {"rule": "stdp"}, **GRADIENT}, "learning.rule", "'stdp'"),
    ({"learning": {"rule": "none"}, **GRADIENT}, "learning.rule", "enabled"),
    ({"learning": {"feedback": "local"}}, "learning.feedback", "'local'"),
    ({"learning": {"update": "step"}, **GRADIENT}, "learning.optimizer", "'rms'", "sgd"),
    (
        {"learning": {"update": "step", "objective": "rate_ce", "optimizer": "sgd"}, **GRADIENT},
        "learning.objective",
        "rate_ce",
    ),
    ({"learning": {"rate": -1.0}}, "learning.rate", "-1.0"),
    ({"learning": {"enabled": 1}}, "learning.enabled", "1"),
    ({"memory": {"methods": ["dream"]}}, "memory.methods[0]", "'dream'", "'average', "),
    ({"memory": {"methods": ["average"]}}, "memory.methods[0]", "'average'", 'rule = "none"'),
    ({"memory": {"methods": ["copies"]}, **GRADIENT}, "memory.methods[0]", "'copies'", "fixed features"),
    ({"memory": {"methods": ["drift"]}, **GRADIENT}, "memory.methods[0]", "'drift'", "fixed features"),
    ({"memory": {"methods": ["replay"]}}, "memory.methods[0]", "'replay'", 'rule = "none"'),
    ({"memory": {"methods": ["copies", "copies"]}}, "memory.methods[1]", "twice"),
    (
        {"memory": {"methods": ["average"]}, **GRADIENT, "learning": {"objective": "reward"}},
        "memory.methods[0]",
        "'average'",
        "reward",
    ),
    ({"memory": {"copies_px": [1, 64]}}, "memory.copies_px[1]", "64"),
    ({"memory": {"copies_px": [1, 1]}}, "memory.copies_px[1]", "twice"),
    ({"memory": {"methods": ["copies"], "copies_px": []}}, "memory.copies_px", "nothing to copy"),
    ({"ingest": {"endpoint": "127.0.0.1:5570"}}, "ingest.endpoint", "127.0.0.1:5570", "tcp://ADDRESS:PORT"),
    ({"ingest": {"endpoint": "tcp://127.0.0.1:0"}}, "ingest.endpoint"),
    ({"ingest": {"endpoint": "tcp://127.0.0.1:70000"}}, "ingest.endpoint"),
    ({"ingest": {"mode": "push"}}, "ingest.mode", "'push'", "'pull', 'sub'"),
    ({"metrics": {"port": 65536}}, "metrics.port", "65536"),
    ({"checkpoint": {"keep": 0}}, "checkpoint.keep", "0"),
    ({"checkpoint": {"on_stop": "yes"}}, "checkpoint.on_stop", "'yes'"),
    ({"security": {"curve": True}}, "security.server_secret_key_file", "`spiked keys DIR`"),
    ({"security": {"curve": True, "server_secret_key_file": "x"}}, "security.authorized_keys_dir", "curve = true"),
    ({"security": {"authorized_keys_dir": "x"}}, "security.authorized_keys_dir", "security.curve is false"),
    ({"ingest": {"max_connections": 0}}, "ingest.max_connections", "0"),
    ({"ingest": {"queue_mb": 0}}, "ingest.queue_mb", "0"),
    *[
        ({t: {"endpoint": f"tcp://{host}:5570"}}, f"{t}.endpoint", host, "security.allow_insecure")
        for t in ("ingest", "predictions", "control")
        for host in (
            "0.0.0.0",
            "*",
            "192.168.1.4",
            "[::]",
            "example.org",
            "eth0",
            "lo",
            "127.1",
            "2130706433",
            "0x7f000001",
            "127.0.0.1.example.org",
            "localhost.example.org",
            "LOCALHOST",
            "[::ffff:192.168.1.4]",
            "[fe80::1%eth0]",
            "0",
            "127.0.0.1/8",
        )
    ],
    *[
        ({"control": {"endpoint": endpoint}}, "control.endpoint", "no endpoint")
        for endpoint in (
            "tcp://127.0.0.1;192.168.1.4:5570",
            "tcp://192.168.1.4:1;127.0.0.1:5570",
            "tcp://127.0.0.1 :5570",
            "ipc://",
            "tcp:///127.0.0.1",
            "tcp://127.0.0.1:*",
            "tcp://127.0.0.1:5570\n",
            "ipc://*",
            "ipc:///a b",
            "tcp://:5570",
            "udp://127.0.0.1:5570",
            "pgm://eth0;224.0.0.1:5570",
            "ws://127.0.0.1:5570",
            "inproc://a",
            "TCP://0.0.0.0:1",
        )
    ],
    ({"control": {"endpoint": "ipc://@spiked"}}, "control.endpoint", "all users of this machine"),
    ({"metrics": {"host": "0.0.0.0"}}, "metrics.host", "0.0.0.0", "security.allow_insecure"),
    ({"metrics": {"host": ""}}, "metrics.host"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors_name_place_value_and_what_is_allowed(case):
    raw, place, *said = ERRORS[case]
    with pytest.raises(ConfigError) as error:
        parse_config({"stream": [CAM], **raw})
    text = str(error.value)
    assert text.startswith((place + ":", "stream[0]." + place + ":")), text
    for word in said:
        assert word in text, text
    assert "\n" not in text and not text.endswith(".")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_loopback_needs_no_permission(host):
    config(ingest={"endpoint": f"tcp://{host}:5570"})


def test_encryption_opens_the_network_but_not_http():
    curve = {"curve": True, "server_secret_key_file": "s", "authorized_keys_dir": "a"}
    everywhere = {t: {"endpoint": f"tcp://*:{5570 + k}"} for k, t in enumerate(("ingest", "predictions", "control"))}
    config(**everywhere, security=curve)
    config(ingest={"endpoint": "ipc://@spiked"}, security=curve)
    with pytest.raises(ConfigError, match=r"metrics\.host: .* HTTP is never encrypted"):
        config(**everywhere, security=curve, metrics={"host": "0.0.0.0"})


def test_the_network_needs_permission_and_a_unix_socket_does_not():
    config(ingest={"endpoint": "tcp://0.0.0.0:5570"}, metrics={"host": "0.0.0.0"}, security={"allow_insecure": True})
    config(control={"endpoint": "ipc:///run/spiked/control"})


@pytest.mark.parametrize(
    "content, said",
    [(None, "cannot be read"), (b"[network\n", "not valid TOML"), (b"\xff", "not valid TOML"), (b"", "stream")],
)
def test_files_that_cannot_be_used(tmp_path, content, said):
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: ")


FULL = {
    "daemon": {"state_dir": '/var/lib/sp"ik\\ed', "log_level": "debug"},
    "security": {"allow_insecure": True},
    "metrics": {"host": "::1", "port": 0},
    "predictions": {"every_ms": 12.5},
    "network": {
        "classes": ["wave", "é\"'\\ 手\x7f"],
        "trace_ms": [1, 2.5e-7],
        "layers": [{"neurons": 3}, {"reset": "zero"}],
    },
    "learning": {"enabled": False, "rate": 1e-30},
    "stream": [
        {**CAM, "network": {"head": "gradient"}, "learning": {"update": "step", "optimizer": "sgd"}},
        {**CAM, "id": "cam1", "late": "clamp", "hot_pixel_hz": 5},
    ],
}


@pytest.mark.parametrize("raw", [{"stream": [CAM]}, FULL])
def test_the_effective_configuration_reads_back_the_same(raw):
    c = parse_config(raw)
    text = effective_toml(c)
    again = parse_config(tomllib.loads(text))
    assert effective_toml(again) == text
    for table in set(c.__struct_fields__) - {"network", "learning", "memory"}:  # these are written into each stream
        assert getattr(again, table) == getattr(c, table), table
    assert [learner_digest(s) for s in again.stream] == [learner_digest(s) for s in c.stream]


def test_the_learners_digest_follows_what_its_weights_hang_on():
    def digest(stream=CAM, **tables):
        return learner_digest(config(stream, **tables).stream[0])

    same = [{}, {"learning": {"rate": 0.5}}, {"network": {"classes": ["a"]}}, {"predictions": {"every_ms": 20}}]
    assert len({digest(**tables) for tables in same}) == 1
    other = [
        {},
        {"network": {"seed": 1}},
        {"network": {"layers": [{"neurons": 5}]}},
        {"network": {"head": "prototype"}},
        {"stream": {**CAM, "width": 9}},
        {"stream": {**CAM, "dt_ms": 2.0}},
        {"network": {"ridge": 9.0}},
        GRADIENT,
    ]
    assert len({digest(**tables) for tables in other}) == len(other)


def test_no_table_shares_its_defaults():
    one, two = config(), config()
    one.stream[0].network.layers[0].neurons = 1
    one.stream[0].network.trace_ms.append(1.0)
    assert msgspec.to_builtins(two) == msgspec.to_builtins(config())


@pytest.mark.parametrize(
    ("stream", "network", "says"),
    [
        ({"width": 1280, "height": 720}, {}, r"stream\[0\].network.layers\[0\].neurons: 256 .*1.9 GB.*downsample"),
        ({}, {"layers": [{"neurons": 1000}, {"neurons": 1 << 19}]}, r"layers\[1\].neurons: 524288 .*2.1 GB"),
        ({}, {"layers": [{"neurons": 4096}]}, r"trace_ms: 5 traces of 4096 neurons are 20480 features.*1.7 GB"),
    ],
)
def test_what_would_not_fit_is_refused_before_it_is_taken(stream: dict, network: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config({"stream": [{"id": "a", "width": 34, "height": 34, **stream}], "network": network})
    parse_config({"stream": [{"id": "a", "width": 1280, "height": 720, "downsample": 8}]})


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"control": {"endpoint": "tcp://127.0.0.1:5570"}}, r"control.endpoint: .* is that of \[ingest\] too"),
        ({"metrics": {"port": 5571}}, r"predictions.endpoint: .* is that of \[metrics\] too"),
        ({"daemon": {"state_dir": ""}}, "daemon.state_dir"),
        ({"ingest": {"queue_messages": 99999999999}}, "ingest.queue_messages: 99999999999: .*1000000"),
    ],
)
def test_what_cannot_be_bound_or_held_is_refused(sections: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config({"stream": [{"id": "a", "width": 34, "height": 34}], **sections})
