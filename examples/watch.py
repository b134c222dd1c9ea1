"""Predictions as they come, without spiked: `python watch.py cam0`."""

import json
import sys

import zmq

socket = zmq.Context().socket(zmq.SUB)
socket.connect("tcp://127.0.0.1:5571")
socket.setsockopt_string(zmq.SUBSCRIBE, sys.argv[1] + "/" if len(sys.argv) > 1 else "")
while True:
    topic, said = socket.recv_multipart()
    prediction = json.loads(said)
    print(prediction["t_us"], prediction["label"], prediction["confidence"])
