import random
import struct
import sys
import time

import zmq

context = zmq.Context()
push = context.socket(zmq.PUSH)
push.connect("tcp://127.0.0.1:5570")
epoch, seq = random.getrandbits(32), 0  # a new epoch at each start: numbers and stream time begin again


def send(kind, codec, t_first, t_last, count, payload):
    global seq
    fields = b"SPK1", kind, codec, 64, seq, t_first, t_last, time.time_ns(), count, epoch, 34, 34, 2, 0, len(payload), 0
    push.send_multipart([b"cam0/", struct.pack("<4sBBHQQQQIIHHHHII", *fields), payload])
    seq += 1


x0 = {"left": 2, "right": 22}[sys.argv[1]]  # the half of the view in which something moves
for t in range(0, 2_000_000, 10_000):  # us; put your camera's packets here
    events = [(t + 20 * k, x0 + random.randrange(10), random.randrange(34), k % 2) for k in range(500)]
    send(1, 1, t, t + 10_000, len(events), b"".join(struct.pack("<QHHB", *e) for e in events))
    time.sleep(0.01)
push.close()
context.term()  # waits until all is on its way
