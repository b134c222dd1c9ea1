#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <zmq.h>

#pragma pack(1)
struct header { char magic[4]; uint8_t kind, codec; uint16_t header_size; uint64_t seq, t_first, t_last, sent;
                uint32_t count, epoch; uint16_t width, height, planes, flags; uint32_t payload_bytes, crc; };
struct event { uint64_t t; uint16_t x, y; uint8_t on; };

int main(void) {
  void *context = zmq_ctx_new(), *push = zmq_socket(context, ZMQ_PUSH);
  if (zmq_connect(push, "tcp://127.0.0.1:5570")) return 1;
  uint32_t epoch = (uint32_t)time(NULL);
  for (uint64_t seq = 0, t = 0; seq < 200; seq++, t += 10000) {  /* us; put your camera's packets here */
    struct event events[500];
    for (int k = 0; k < 500; k++) events[k] = (struct event){t + 20 * k, 2 + rand() % 10, rand() % 34, k % 2};
    struct header head = {{'S', 'P', 'K', '1'}, 1, 1, 64, seq, t, t + 10000, 0, 500, epoch, 34, 34, 2, 0, sizeof events, 0};
    zmq_send(push, "cam0/", 5, ZMQ_SNDMORE);
    zmq_send(push, &head, sizeof head, ZMQ_SNDMORE);
    zmq_send(push, events, sizeof events, 0);
  }
  zmq_close(push);
  return zmq_ctx_term(context);
}
