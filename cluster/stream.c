/*
 * stream STOP NAME DEVICE PORT ADDRESS [NAME DEVICE PORT ADDRESS ...]
 *
 * Sends a UDP packet each millisecond out of each DEVICE to PORT of ADDRESS,
 * where another one of these runs, and counts what comes from there. It
 * begins to count once both hear each other, and says so ("NAME began"); when
 * the file STOP is there it stops sending, takes what is still on its way and
 * says for each stream what it sent and which packets never came.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS = 16, PACKETS = 1 << 20, BUFFER = 16 << 20, DRAIN_MS = 1500, WAIT_MS = 20000 };

struct packet {
  uint32_t number, heard;
};

struct stream {
  const char *name;
  int fd, heard, begun;
  uint32_t sent, received, refused;
  unsigned char seen[PACKETS];
};

static struct stream streams[STREAMS];
static int count;

static void fail(const char *what) {
  printf("stream: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int open_socket(const char *device, int port, const char *address) {
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  int old = inet_pton(AF_INET, address, &v4.sin_addr) == 1, size = BUFFER;
  if (!old && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1) fail(address);
  int fd = socket(old ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device) + 1) < 0) fail(device);
  /* What waits here for a busy machine is not lost on the way. */
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0) fail("receive buffer");
  struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  if (bind(fd, old ? (void *)&any4 : (void *)&any6, old ? sizeof any4 : sizeof any6) < 0) fail("bind");
  if (connect(fd, old ? (void *)&v4 : (void *)&v6, old ? sizeof v4 : sizeof v6) < 0) fail("connect");
  return fd;
}

static void send_one(struct stream *s) {
  int counting = s->begun && s->sent + 1 < PACKETS;
  struct packet p = {counting ? s->sent + 1 : 0, s->heard};
  ssize_t n = send(s->fd, &p, sizeof p, 0);
  if (!counting) return;
  s->sent++;
  if (n != sizeof p) s->refused++;
}

static void receive_all(struct stream *s) {
  struct packet p;
  for (;;) {
    ssize_t n = recv(s->fd, &p, sizeof p, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (n != sizeof p) {
      /* An ICMP error; what it is about counts as lost by its number. */
      if (n < 0 && errno != ECONNREFUSED && errno != EHOSTUNREACH && errno != ENETUNREACH && errno != EINTR && errno != ENETDOWN) return;
      continue;
    }
    s->heard = 1;
    if (p.heard && !s->begun) {
      s->begun = 1;
      printf("%s began\n", s->name);
    }
    if (p.number > 0 && p.number < PACKETS && !s->seen[p.number]) s->seen[p.number] = 1, s->received++;
  }
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int i = 2; i + 3 < argc && count < STREAMS; i += 4, count++) {
    streams[count].name = argv[i];
    streams[count].fd = open_socket(argv[i + 1], atoi(argv[i + 2]), argv[i + 3]);
  }
  int64_t began = now_us(), next = began;
  for (int round = 0;; round++) {
    if (round % 64 == 0 && access(argv[1], F_OK) == 0) break;
    for (int i = 0; i < count; i++) {
      send_one(&streams[i]);
      receive_all(&streams[i]);
      if (!streams[i].begun && now_us() - began > WAIT_MS * 1000LL)
        return printf("stream: %s was never answered\n", streams[i].name), 1;
    }
    next += 1000;
    int64_t left = next - now_us();
    /* A machine that was busy does not make up for it by a burst. */
    if (left < 0) next = now_us(), left = 0;
    usleep(left);
  }
  for (int64_t end = now_us() + DRAIN_MS * 1000LL; now_us() < end; usleep(1000))
    for (int i = 0; i < count; i++) receive_all(&streams[i]);
  for (int i = 0; i < count; i++) {
    struct stream *s = &streams[i];
    printf("%s sent %u refused %u received %u missing", s->name, s->sent, s->refused, s->received);
    uint32_t highest = 0;
    for (uint32_t n = 1; n < PACKETS; n++)
      if (s->seen[n]) highest = n;
    for (uint32_t n = 1; n <= highest; n++)
      if (!s->seen[n]) {
        uint32_t from = n;
        while (n < highest && !s->seen[n + 1]) n++;
        printf(" %u-%u", from, n);
      }
    printf("\n");
  }
  return 0;
}
