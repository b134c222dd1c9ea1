"""Analogue channels to a daemon: made-up signals, delta modulated: `python send_analogue.py tcp://127.0.0.1:5570`.

The daemon's configuration::

    [network]
    classes = ["slow", "fast"]

    [[stream]]
    id = "probe"
    width = 8
    height = 1
"""

import sys

import numpy as np
import zmq

from spiked.io.analogue import AnalogueChannels
from spiked.io.sender import Sender
from spiked.learners.encoders import DeltaEncoder

CHANNELS, RATE_HZ, SAMPLES, TAUGHT = 8, 1000.0, 20, 12
rng = np.random.default_rng(1)
channels = AnalogueChannels(DeltaEncoder(CHANNELS, on=0.15), CHANNELS, RATE_HZ)
sender = Sender("probe", channels.geometry)
context = zmq.Context()
push = context.socket(zmq.PUSH)
push.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5570")


def signal(name: str) -> np.ndarray:
    """Half a second of a wave that travels over the channels, float[500, 8]; put your samples here."""
    t = np.arange(500)[:, None] / RATE_HZ
    wave = {"slow": 5.0, "fast": 12.0}[name] * t - np.arange(CHANNELS) / CHANNELS
    return np.sin(2 * np.pi * (wave + rng.random())) + rng.normal(0, 0.02, wave.shape)


for k in range(SAMPLES):
    name = ("slow", "fast")[k % 2]
    start = channels.t_us
    parts = [(channels.encode(part), channels.t_us) for part in np.split(signal(name), 25)]  # 20 ms each
    if k < TAUGHT:
        push.send_multipart(sender.target(name, start, channels.t_us))
    for events, t_us in parts:
        push.send_multipart(sender.events(events, t_us))
    push.send_multipart(sender.reset(channels.t_us))
push.close()
context.term()  # waits until all is on its way
