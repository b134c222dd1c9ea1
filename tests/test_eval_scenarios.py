"""``spiked eval --scenario``: what it prints, writes, draws and refuses."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from eval_cases import SIDE, Strips, config, write_set

from spiked.io.drifts import HOT_HZ, HOT_SHARE, KINDS, NOISE_HZ, SHIFT_PX
from spiked.service.cli import main
from spiked.service.cmd_eval import SCENARIOS
from spiked.service.configfile import effective_toml
from spiked.service.scenarios import SNR

VOID = ("meta", "img", "br")


class Page(HTMLParser):
    """Checks that tags are closed in order; keeps texts, pictures and the cells of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert not {"href", "onload"} & set(found), "nothing from outside"
        if "src" in found:
            self.sources.append(found["src"] or "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "c.toml"
    path.write_text(effective_toml(config(network={"classes": Strips.names})))
    return str(path), str(write_set(tmp_path / "strips.npz", Strips()))


def test_tasks_as_text_json_picture_and_page(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = {name: tmp_path / f"out.{name}" for name in ("json", "html", "png")}
    options = ["--scenario", "class-incremental", "--seed", "4"]
    paths = ["--json", str(out["json"]), "--page", str(out["html"]), "--plot", str(out["png"])]
    assert main(["eval", *files, *options, *paths]) == 0
    printed, err = capsys.readouterr()
    told = json.loads(out["json"].read_text())
    assert err == "" and told["scenario"] == "class-incremental" and told["seed"] == 4
    assert [t["classes"] for t in told["tasks"]] == [["a", "b"], ["c", "d"]]
    matrix = np.array(told["matrix"])
    assert matrix.shape == (2, 2) and matrix[0, 1] == 0 < matrix[0, 0]
    assert told["average_accuracy"] == matrix[1].mean() and told["forgetting"] == matrix[0, 0] - matrix[1, 0]
    assert told["backward_transfer"] == -told["forgetting"]
    assert "split: the set's own; order drawn from seed 4; network drawn from seed 0" in printed
    assert f"at the end: {100 * matrix[1].mean():.1f} % right on average over the tasks" in printed
    row = next(line for line in printed.splitlines() if line.startswith("c, d"))
    assert row.split()[2:] == [f"{100 * a:.1f}" for a in matrix[1]]

    page = Page(out["html"].read_text())
    assert ["c, d", *(f"{100 * a:.1f}" for a in matrix[1])] in page.rows
    figures = {row[0]: row[1] for row in page.rows if len(row) == 3}
    assert figures["forgetting"] == f"{100 * told['forgetting']:.1f} %"
    assert figures["state_bytes"] == f"{told['state_bytes'] / 1e6:.2f} MB"
    assert "order drawn from seed 4" in page.text and "--scenario class-incremental --seed 4" in page.text
    from matplotlib.image import imread

    (source,) = page.sources
    inside = imread(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
    for image in (inside, imread(out["png"])):
        assert image.shape[1] > 800 and len(np.unique(image[..., :3].reshape(-1, 3), axis=0)) > 50, "a blank picture"
    assert not re.search(r"https?://|@import|url\(", out["html"].read_text())


def test_drift_over_splits(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "o.json", tmp_path / "o.html"
    argv = ["--scenario", "drift", "--drift", "mirror, noise", "--splits", "3", "--seed", "1"]
    assert main(["eval", *files, *argv, "--json", str(out), "--page", str(page)]) == 0
    told, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert told["splits"] == 3 and [r["seed"] for r in told["reports"]] == [1, 2, 3]
    assert [r["split"][:6] for r in told["reports"]] == ["1 of 3", "2 of 3", "3 of 3"]
    tests = [tuple(r["test"]["index"][: len(r["test"]["index"]) // 2]) for r in told["reports"]]
    assert len(set(tests)) == 3, "the same split again"
    for report in told["reports"]:
        half = len(report["test"]["index"]) // 2
        assert report["test"]["index"][:half] == report["test"]["index"][half:]
        assert not set(report["train"]["index"]) & set(report["test"]["index"])
    finals = [np.mean(r["matrix"][1]) for r in told["reports"]]
    spread = told["measures"]["average_accuracy"]
    assert spread["mean"] == pytest.approx(np.mean(finals)) and spread["sd"] == pytest.approx(np.std(finals, ddof=1))
    assert np.allclose(told["matrix"], np.mean([r["matrix"] for r in told["reports"]], axis=0))
    assert "3 splits, seeds 1 to 3" in printed and "mirrored, left to right" in printed
    text = Page(page.read_text()).text
    assert "3 splits, stratified, drawn from seeds 1 to 3" in text and "3 of 3, stratified" in text


def test_tasks_of_one_class_in_the_order_given(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--scenario", "class-incremental", "--classes-per-task", "1", "--classes", "c,a,d", "--json", "-"]
    assert main(["eval", *files, *argv]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [t["name"] for t in told["tasks"]] == ["c", "a", "d"]
    taught = [told["classes"][k] for k in dict.fromkeys(told["train"]["true"])]
    assert taught == ["c", "a", "d"]


def test_shuffled_has_a_page_too_and_names_are_escaped(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, named = tmp_path / "s.html", tmp_path / "<b>strips.npz"
    Path(files[1]).rename(named)
    assert main(["eval", files[0], str(named), "--splits", "2", "--quick", "--page", str(path)]) == 0
    assert "test_accuracy" in capsys.readouterr().out
    page = Page(path.read_text())
    assert "<b>strips.npz: shuffled" in page.text and len(page.sources) == 1
    assert {row[0] for row in page.rows} >= {"test_accuracy", "forgetting", *Strips.names}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--scenario", "drift", "--drift", "tilt"], "'tilt'; allowed: rotate, mirror"),
        (["--scenario", "drift", "--drift", "snr"], "strips.npz has no levels of noise"),
        (["--drift", "mirror"], "--drift is for --scenario drift, not shuffled"),
        (["--scenario", "drift", "--classes-per-task", "2"], "--classes-per-task is for class-incremental"),
        (["--scenario", "class-incremental", "--classes-per-task", "4"], "two tasks at least"),
        (["--scenario", "task-incremental", "--classes-per-task", "3"], "'d' would be alone in its task"),
        (["--scenario", "class-incremental", "--quick"], "--quick: class-incremental"),
        (["--splits", "0"], "--splits: 0; at least 1"),
        (["--page", "x.pdf"], "--page: x.pdf; a name ending in .html or .htm"),
        (["--page", "nowhere/x.html"], "no such folder"),
        (["--scenario", "class-incremental", "--limit", "2"], "no "),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_refusals_are_one_line(
    argv: list[str], message: str, files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *files, *argv]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("spiked eval: ") and message in err and err.count("\n") == 1
    assert not err.endswith(".\n") and files[0] not in err


def test_the_page_of_scenarios_names_them_all() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "continual.md").read_text()
    text = page[page.index("## Scenarios") :]
    rows = [re.findall(r"`([^`]*)`", line.split("|")[1]) for line in text.splitlines() if line.startswith("| `")]
    first = [names[0] for names in rows if not names[0].startswith("--")]
    assert first[: len(SCENARIOS)] == list(SCENARIOS)
    assert first[len(SCENARIOS) :][: len(KINDS) + 1] == [*KINDS, SNR]
    assert f"moves by {SHIFT_PX} px" in text and f"{NOISE_HZ:g} Hz in each pixel" in text
    assert f"{HOT_SHARE:.0%}".replace("%", " %") in text and f"Poisson, {HOT_HZ:g} Hz" in text


def test_a_sensor_that_is_not_square_cannot_be_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = config(height=1, width=4, network={"classes": ["1", "2"]})
    (tmp_path / "c.toml").write_text(effective_toml(conf))
    counts = np.random.default_rng(0).poisson(0.3, (1, 2, 600, SIDE)).astype(np.uint16)
    np.savez(tmp_path / "tones.npz", counts=counts, tones_hz=np.array([1, 2]))
    argv = ["eval", str(tmp_path / "c.toml"), str(tmp_path / "tones.npz"), "--scenario", "drift", "--drift"]
    assert main([*argv, "rotate"]) == 2
    assert capsys.readouterr().err == "spiked eval: --drift rotate: a quarter turn needs a square sensor, not 4x1x2\n"
    assert main([*argv, "mirror"]) == 0


def test_tones_fade_into_noise(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text(
        '[network]\nlayers = [{ neurons = 64 }]\n\n[[stream]]\nid = "ear"\nwidth = 64\nheight = 1\n'
        "[stream.learning]\nwindow_ms = 100\n"
    )
    tones = str(data_dir / "cochlea" / "nas_tones.npz")
    assert main(["eval", str(tmp_path / "c.toml"), tones, "--scenario", "drift", "--drift", "snr", "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [t["name"] for t in told["tasks"]][:2] == ["no noise", "21.3 dB"] and len(told["tasks"]) == 7
    clean, noisiest = told["matrix"][1][0], told["matrix"][1][6]
    assert clean > 0.7 > 0.4 > noisiest, "eight tones; at -8.7 dB nothing is left of them"
