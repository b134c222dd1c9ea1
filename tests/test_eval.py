"""``spiked eval`` against a loop written by hand, an outside client, and figures counted anew."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from eval_cases import CLASSES, SIDE, Bars, config, write_set

from spiked.io.datasets import Sample, open_dataset
from spiked.io.events import Geometry
from spiked.io.sender import Sender
from spiked.service import offline as module
from spiked.service.cli import main
from spiked.service.config import Config
from spiked.service.configfile import ConfigError, effective_toml, parse_config
from spiked.service.evaluate import evaluate
from spiked.service.pipeline import Pipeline
from spiked.service.prediction import Prediction


def plain(prediction: Prediction) -> dict[str, Any]:
    return {k: v for k, v in msgspec.to_builtins(prediction).items() if k != "arrived_s"}


GRADIENT = {"head": "gradient", "decoder": "membrane"}


@pytest.mark.parametrize("network", [{}, GRADIENT], ids=["discriminant", "gradient"])
def test_it_is_the_daemons_path_bit_for_bit(network: dict[str, Any]) -> None:
    dataset, conf = Bars(), config(network=network)
    heard: list[Prediction] = []
    report = evaluate(conf, dataset, seed=3, heard=heard.append)

    pipeline = Pipeline(conf)
    sender = Sender("cam0", Geometry(SIDE, SIDE, 2), epoch=77)
    t0, by_hand, final = 0, [], []
    order = np.random.default_rng(3).permutation(40).tolist() + list(range(40, 55))
    for i in order:
        label, events, duration_us = dataset.sample(i)
        end = t0 + duration_us
        moved = events.copy()
        moved["t"] += t0
        out = pipeline.handle(sender.target(label, t0, end)) if i < 40 else []
        out += pipeline.handle(sender.events(moved, end)) + pipeline.handle(sender.reset(end))
        by_hand += out
        final += [p.class_ for p in out if p.final]
        t0 = end
    assert not pipeline.wire.refused and len(final) == 55
    assert [plain(p) for p in heard] == [plain(p) for p in by_hand]
    assert report.train.index + report.test.index == order and report.train.said + report.test.said == final
    stream = pipeline.streams["cam0"]
    assert report.weights_digest == stream.weight_digest()
    assert (report.events, report.steps) == (stream.stats.events, stream.stats.steps) == (55 * 150, t0 // 1000)


def test_the_label_is_never_seen_before_the_prediction() -> None:
    order = np.random.default_rng(0).permutation(40)
    changed = int(order[20])

    class OneMoved(Bars):
        def sample(self, i: int) -> Sample:
            sample = super().sample(i)
            return sample._replace(label=(sample.label + 1) % 3) if i == changed else sample

    heard: tuple[list[Prediction], list[Prediction]] = ([], [])
    honest = evaluate(config(), Bars(), quick=True, heard=heard[0].append)
    misled = evaluate(config(), OneMoved(), quick=True, heard=heard[1].append)
    scores = [[p.scores for p in h] for h in heard]
    ends = np.cumsum([Bars().sample(int(i)).duration_us for i in order])
    before = sum(p.t_us <= ends[20] for p in heard[0])
    assert scores[0][:before] == scores[1][:before], "up to its own prediction a label changes nothing"
    assert scores[0][before:] != scores[1][before:], "and then it teaches"
    assert honest.weights_digest != misled.weights_digest


def test_looking_at_the_test_split_in_between_changes_nothing() -> None:
    full, quick = evaluate(config(), Bars()), evaluate(config(), Bars(), quick=True)
    assert (full.train, full.test, full.weights_digest) == (quick.train, quick.test, quick.weights_digest)
    assert [c.after for c in full.checks] == [8, 16, 24, 32, 40] and [c.after for c in quick.checks] == [40]
    assert quick.forgetting == [None] * 3 and quick.summary()["forgetting"] is None


def test_a_check_is_the_test_after_so_much_training() -> None:
    checks = evaluate(config(), Bars(), shuffle=False).checks
    for check in checks[:-1]:
        part = Bars()
        part.train = part.train[: check.after]
        only = evaluate(config(), part, shuffle=False, quick=True)
        assert only.checks[-1] == check


def test_figures_counted_anew() -> None:
    report = evaluate(config(), Bars())
    told = report.summary()
    right = [t == s for t, s in zip(report.train.true, report.train.said)]
    assert told["accuracy"] == sum(right) / 40
    assert told["accuracy_first_fifth"] == sum(right[:8]) / 8 and told["accuracy_last_fifth"] == sum(right[32:]) / 8
    pairs = list(zip(report.test.true, report.test.said))
    assert told["test_accuracy"] == sum(t == s for t, s in pairs) / 15 > 0.6
    assert told["confusion"] == [[pairs.count((t, s)) for s in range(3)] for t in range(3)]
    for k in range(3):
        of_class = [s == k for t, s in pairs if t == k]
        assert told["test_class_accuracy"][k] == sum(of_class) / len(of_class)
        best = max(c.class_accuracy[k] or 0 for c in report.checks)
        assert told["class_forgetting"][k] == best - told["test_class_accuracy"][k] >= 0
    assert report.stream_s == pytest.approx(report.steps * 1e-3) and report.us_per_step > 0 and report.speed > 1
    assert report.state_bytes > 32 * 4


def test_forgetting_is_seen_where_it_happens() -> None:
    """A gradient head that is shown one class after the other forgets; the measure says so."""
    dataset = Bars(60, 30)
    dataset.train = dataset.train[np.argsort(dataset.labels[:60], kind="stable")]
    conf = config(network=GRADIENT)
    conf.stream[0].learning.rate = 0.05
    report = evaluate(conf, dataset, shuffle=False)
    assert (report.summary()["forgetting"] or 0) > 0.2


def test_classes_that_nobody_named_are_learnt_by_name() -> None:
    report, named = (
        evaluate(config(network={"classes": []}), Bars(), quick=True),
        evaluate(config(), Bars(), quick=True),
    )
    assert report.classes == CLASSES
    new = [report.train.true.index(k) for k in range(3)]
    said = [report.train.said[i] for i in sorted(new)]
    assert said[1] != report.train.true[sorted(new)[1]], "a class that was never seen is not guessed"
    assert report.test.said == named.test.said


def test_classes_limit_and_order() -> None:
    dataset = Bars()
    report = evaluate(config(), dataset, classes=["right", "left"], limit=6, shuffle=False)
    wanted = [i for i in range(40) if dataset.labels[i] != 1][:6]
    assert report.train.index == wanted and len(report.test.index) == 6 and report.classes == CLASSES
    assert set(report.test.true) <= {0, 2} and report.summary()["test_class_accuracy"][1] is None
    assert (
        evaluate(config(), dataset, limit=6, seed=1).train.index
        != evaluate(config(), dataset, limit=6, seed=2).train.index
    )


def test_the_stream_is_chosen_by_name() -> None:
    two = parse_config(
        {
            "stream": [{"id": "a", "width": 4, "height": 4}, {"id": "b", "width": SIDE, "height": SIDE}],
            "network": {"layers": [{"neurons": 32}], "classes": CLASSES},
        }
    )
    assert evaluate(two, Bars(), stream="b", quick=True).test.said == evaluate(config(), Bars(), quick=True).test.said
    with pytest.raises(ConfigError, match="choose one with --stream: a, b"):
        evaluate(two, Bars())
    with pytest.raises(ConfigError, match="no stream 'c'; allowed: a, b"):
        evaluate(two, Bars(), stream="c")


@pytest.mark.parametrize(
    ("conf", "options", "message"),
    [
        (config(width=9), {}, "write width = 8, height = 8, planes = 2"),
        (config(network={"classes": ["left", "up"]}), {}, r'write classes = \["left", "up", "middle", "right"\]'),
        (config(network={"classes": [], "max_classes": 2}), {}, "max_classes: 2"),
        (config(), {"classes": ["up"]}, "no 'up'; allowed: left, middle, right"),
        (config(), {"limit": 0}, "at least 1"),
    ],
    ids=["geometry", "classes", "max_classes", "unknown class", "limit"],
)
def test_what_does_not_fit_is_said(conf: Config, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        evaluate(conf, Bars(), **options)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")


def test_long_samples_go_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(config(), Bars(), quick=True)
    monkeypatch.setattr(module, "MAX_EVENTS", 40)
    pieces = evaluate(config(), Bars(), quick=True)
    assert pieces.events == whole.events and pieces.steps == whole.steps
    assert (pieces.train.said, pieces.test.said, pieces.weights_digest) == (
        whole.train.said, whole.test.said, whole.weights_digest,
    )  # fmt: skip


def test_samples_begin_with_a_step_whatever_its_length() -> None:
    heard: list[Prediction] = []
    report = evaluate(config(dt_ms=3.0), Bars(), quick=True, heard=heard.append)
    durations = [Bars().sample(i).duration_us for i in report.train.index + report.test.index]
    steps = [-(-d // 3000) for d in durations]
    assert report.steps == sum(steps) and report.events == 55 * 150
    assert [p.t_us for p in heard if p.final] == (np.cumsum(steps) * 3000).tolist()


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "c.toml"
    path.write_text(effective_toml(config()))
    return str(path), str(write_set(tmp_path / "bars.npz"))


def test_the_command(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out_json, picture = tmp_path / "out.json", tmp_path / "out.png"
    assert main(["eval", *files, "--json", str(out_json), "--plot", str(picture)]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out_json.read_text())
    assert err == "" and told["train_samples"] == 40 and told["test_samples"] == 15 and told["classes"] == CLASSES
    assert out.startswith("bars.npz on stream cam0: 40 training samples, 15 test samples, 3 classes\n")
    assert f"test: {100 * told['test_accuracy']:.1f} % right" in out and told["weights_digest"] in out
    from matplotlib.image import imread

    image = imread(picture)
    assert image.shape[1] > 800 and len(np.unique(image[..., :3].reshape(-1, 3), axis=0)) > 50, "a blank picture"


def test_the_command_prints_json_and_nothing_else(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["eval", *files, "--json", "-", "--limit", "5", "--classes", "left, right", "--quick", "--no-shuffle"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["train_samples"] == 5 and told["shuffled"] is False and set(told["train"]["true"]) <= {0, 2}


@pytest.mark.parametrize(
    "argv",
    [
        ["missing.toml", "bars.npz"], ["c.toml", "missing.npz"], ["c.toml", "bars.npz", "--limit", "0"],
        ["c.toml", "bars.npz", "--seed", "-1"], ["c.toml", "bars.npz", "--classes", "up"],
        ["c.toml", "bars.npz", "--stream", "cam1"], ["c.toml", "bars.npz", "--json", "nowhere/x.json"],
        ["c.toml", "bars.npz", "--plot", "x.bmp"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_one_line(
    argv: list[str], files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *argv]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("spiked eval: ") and err.count("\n") == 1 and not err.endswith(".\n")


def test_no_test_split_no_test_figures(capsys: pytest.CaptureFixture[str]) -> None:
    from spiked.service.tables import table

    report = evaluate(config(), Bars(40, 0))
    assert report.summary()["test_accuracy"] is None and report.checks == []
    assert sum(map(sum, report.summary()["confusion"])) == 40
    assert not any(line.startswith("test") for line in table(report))


def test_nmnist8_as_an_outside_client_sends_it(data_dir: Path) -> None:
    path = data_dir.parent / "contract" / "client.py"
    if not path.exists():
        pytest.skip("no outside client beside the recordings")
    spec = importlib.util.spec_from_file_location("outside_client", path)
    assert spec is not None and spec.loader is not None
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    conf = parse_config(
        {
            "stream": [{"id": "cam0", "width": 34, "height": 34}],
            "network": {"layers": [{"neurons": 64}], "classes": list("01234567")},
        }
    )
    pipeline, said = Pipeline(conf), []

    class Outside(client.Sender):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.topic, self.geometry, self.epoch, self.seq = b"cam0/", (34, 34, 2), 5, 0

        def raw(self, *frames: bytes) -> None:
            said.extend(pipeline.handle(frames))

    report = evaluate(conf, open_dataset(data_dir / "nmnist8" / "nmnist8.npz"), limit=60, quick=True)
    theirs, sender = client.NMnist(data_dir / "nmnist8" / "nmnist8.npz"), Outside()
    end = theirs.send(sender, report.train.index)
    theirs.send(sender, report.test.index, end, teach=False)
    assert not pipeline.wire.refused
    assert [p.class_ for p in said if p.final] == report.train.said + report.test.said
    assert pipeline.streams["cam0"].weight_digest() == report.weights_digest
    assert (report.test.accuracy() or 0) > 0.5


def test_tones_of_a_cochlea_are_told_apart(data_dir: Path) -> None:
    conf = parse_config(
        {
            "stream": [{"id": "ear", "width": 64, "height": 1}],
            "network": {"layers": [{"neurons": 64}], "classes": []},
        }
    )
    report = evaluate(conf, open_dataset(data_dir / "cochlea" / "nas_tones.npz"), quick=True)
    assert (report.test.accuracy() or 0) > 0.5  # eight tones, also under noise: chance is one in eight
