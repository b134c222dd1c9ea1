"""N-MNIST over the real wire, and the same through ``spiked eval``: the same predictions, to the last bit?

    python benchmarks/nmnist.py PATH/nmnist8.npz [--config FILE] [--limit N] [--seed 0] [--json out.json]

Starts ``spiked run`` of a configuration (configs/nmnist.toml) on a state directory of its own, sends every training
sample once, shuffled, batch size one, with its target, then the test samples without; takes the final prediction of
each sample, made before its target was learnt from. Then does the same offline and compares every prediction and all
that was learnt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import zmq

from spiked.io.datasets import open_dataset
from spiked.io.sender import Sender
from spiked.service.client import request
from spiked.service.configfile import load_config
from spiked.service.evaluate import evaluate
from spiked.service.prediction import Prediction
from spiked.service.progress import Progress

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "nmnist.toml"
KEYS = ("seq", "t_us", "class", "label", "scores", "spikes", "step", "updates")
AHEAD = 64


def main() -> int:
    """Measure, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    offline: list[Prediction] = []
    config, dataset = load_config(args.config), open_dataset(args.dataset)
    report = evaluate(config, dataset, limit=args.limit, seed=args.seed, quick=True, heard=offline.append)
    order = [*report.train.index, *report.test.index]
    with tempfile.TemporaryDirectory() as state:
        live, wall_s, ready_s, crc = over_the_wire(args.config, config, dataset, order, len(report.train.index), state)
    expected = [json.loads(p.to_json(0.0)) for p in offline]
    same = len(expected) == len(live) and all(a[k] == b[k] for a, b in zip(expected, live) for k in KEYS)
    said = [p["class"] for p in live if p.get("final")]
    right = np.array(said) == dataset.labels[order]
    n = len(report.train.index)
    stream_s = live[-1]["t_us"] * 1e-6
    figures = {
        "train_samples": n, "test_samples": len(order) - n, "ready_s": ready_s,
        "test_accuracy": float(right[n:].mean()), "prequential_accuracy": float(right[:n].mean()),
        "first_fifth": float(right[: n // 5].mean()), "last_fifth": float(right[n - n // 5 : n].mean()),
        "wall_s": wall_s, "stream_s": stream_s, "times_real_time": stream_s / wall_s,
        "predictions": len(live), "eval_is_the_same_to_the_last_bit": bool(same and crc == report.weights_digest),
        "eval_test_accuracy": report.test.accuracy(),
    }  # fmt: skip
    for key, value in figures.items():
        print(f"{key:<34} {value:.4f}" if isinstance(value, float) else f"{key:<34} {value}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if figures["eval_is_the_same_to_the_last_bit"] else 1


def over_the_wire(path, config, dataset, order, n_train, state_home):  # type: ignore[no-untyped-def]
    """Send all samples to a real daemon; returns its predictions, seconds, seconds until ready, the weights' CRC."""
    began = time.monotonic()
    environment = {**os.environ, "XDG_STATE_HOME": state_home}
    daemon = subprocess.Popen([sys.executable, "-P", "-m", "spiked", "run", str(path)], env=environment)
    context = zmq.Context()
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://{config.metrics.host}:{config.metrics.port}/readyz", timeout=1).close()
                break
            except OSError:
                if daemon.poll() is not None:
                    raise SystemExit(f"the daemon ended with code {daemon.returncode}") from None
                time.sleep(0.05)
        ready_s = time.monotonic() - began
        push, sub = context.socket(zmq.PUSH), context.socket(zmq.SUB)
        push.connect(config.ingest.endpoint)
        sub.setsockopt(zmq.RCVHWM, 0)
        sub.setsockopt(zmq.SUBSCRIBE, b"")
        sub.connect(config.predictions.endpoint)
        while not request(config.control.endpoint, {"do": "status"}, 5)["subscribers"]:
            time.sleep(0.01)
        stream = config.stream[0]
        sender, said, finals, t0 = Sender(stream.id, dataset.geometry), [], 0, 0

        def listen(wait_ms: int) -> None:
            nonlocal finals
            while sub.poll(wait_ms):
                said.append(json.loads(sub.recv_multipart()[1]))
                finals += said[-1].get("final", False)
                wait_ms = 0

        began = time.monotonic()
        with Progress("over the wire", len(order), "samples") as progress:
            for k, i in enumerate(order):
                sample = dataset.sample(i)
                end = t0 + sample.duration_us
                events = sample.events.copy()
                events["t"] += np.uint64(t0)
                if k < n_train:
                    push.send_multipart(sender.target(int(sample.label), t0, end))
                push.send_multipart(sender.events(events, end))
                push.send_multipart(sender.reset(end))
                t0 = end
                while k - finals > AHEAD:
                    listen(1000)
                listen(0)
                progress.advance()
        while finals < len(order):
            listen(1000)
        wall_s = time.monotonic() - began
        crc = request(config.control.endpoint, {"do": "status"}, 5)["streams"][stream.id]["weights_crc"]
        return said, wall_s, ready_s, crc
    finally:
        daemon.terminate()
        daemon.wait(10)
        context.destroy(0)


if __name__ == "__main__":
    raise SystemExit(main())
