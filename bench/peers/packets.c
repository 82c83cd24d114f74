/*
 * packets serve PORT                 answers, or counts, UDP packets until its stdin ends
 * packets latency ADDRESS PORT MS    one packet after another, each answered: microseconds of the first, median, 99th of 100
 * packets flood ADDRESS PORT MS      as many as it can: packets sent and received, and microseconds of processor time of both ends
 * packets reach                      for each address on stdin, pings it until it answers: when that ping was sent, how many there were
 *
 * All times are of the machine's one monotonic clock.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, BATCH = 32, BUFFER = 8 << 20, ANSWERS = 1 << 20, PING_US = 250, PING_MS = 30000 };

/* The first byte of a packet: answer it, count it, say how many there were. */
enum { ANSWER = 'a', COUNT = 'c', TALLY = 't' };

struct tally {
  uint64_t packets, cpu_us;
};

static void fail(const char *what) {
  fprintf(stderr, "packets: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static uint64_t cpu_us(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000ULL + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

static struct sockaddr_in address_of(const char *text, int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (inet_pton(AF_INET, text, &address.sin_addr) != 1) errno = EINVAL, fail(text);
  return address;
}

static int udp(int timeout_ms) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = BUFFER;
  struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
  if (fd < 0) fail("socket");
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0) fail("receive buffer");
  if (timeout_ms && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0) fail("timeout");
  return fd;
}

static int udp_to(char **argv, int timeout_ms) {
  struct sockaddr_in to = address_of(argv[2], atoi(argv[3]));
  int fd = udp(timeout_ms);
  if (connect(fd, (void *)&to, sizeof to) < 0) fail("connect");
  return fd;
}

struct batch {
  struct mmsghdr messages[BATCH];
  struct iovec parts[BATCH];
  struct sockaddr_in from[BATCH];
  char bytes[BATCH][SIZE];
};

static void prepare(struct batch *b, int named) {
  memset(b, 0, sizeof *b);
  for (int i = 0; i < BATCH; i++) {
    b->parts[i] = (struct iovec){b->bytes[i], SIZE};
    b->messages[i].msg_hdr.msg_iov = &b->parts[i];
    b->messages[i].msg_hdr.msg_iovlen = 1;
    if (!named) continue;
    b->messages[i].msg_hdr.msg_name = &b->from[i];
    b->messages[i].msg_hdr.msg_namelen = sizeof b->from[i];
  }
}

static int serve(int port) {
  static struct batch b;
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct tally tally = {0};
  uint64_t cpu = cpu_us();
  int fd = udp(0);
  if (bind(fd, (void *)&any, sizeof any) < 0) fail("bind");
  printf("ready\n");
  struct pollfd both[] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
  for (;;) {
    if (poll(both, 2, -1) < 0) fail("poll");
    if (both[1].revents) return 0;
    prepare(&b, 1);
    int n = recvmmsg(fd, b.messages, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++) {
      switch (b.bytes[i][0]) {
      case COUNT:
        tally.packets++;
        break;
      case ANSWER:
        sendto(fd, b.bytes[i], b.messages[i].msg_len, 0, (void *)&b.from[i], sizeof b.from[i]);
        break;
      case TALLY:
        tally.cpu_us = cpu_us() - cpu;
        sendto(fd, &tally, sizeof tally, 0, (void *)&b.from[i], sizeof b.from[i]);
      }
    }
  }
}

static int by_size(const void *a, const void *b) {
  float x = *(float *)a, y = *(float *)b;
  return x < y ? -1 : x > y;
}

static int latency(char **argv) {
  static float times[ANSWERS];
  char packet[SIZE] = {ANSWER};
  int fd = udp_to(argv, 2000), lost = 0, count = 0;
  float first = 0;
  struct timespec t, u;
  for (int64_t end = 0; (count < 2 || now_us() < end) && count < ANSWERS;) {
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (send(fd, packet, SIZE, 0) != SIZE || recv(fd, packet, SIZE, 0) != SIZE) {
      if (++lost > 10) errno = ETIMEDOUT, fail(argv[2]);
      continue;
    }
    clock_gettime(CLOCK_MONOTONIC, &u);
    times[count] = (u.tv_sec - t.tv_sec) * 1e6 + (u.tv_nsec - t.tv_nsec) / 1e3;
    if (count++) continue;
    /* The time of all others begins when the first is answered. */
    first = times[0] + 2e6 * lost;
    end = now_us() + atoi(argv[4]) * 1000LL;
  }
  float *others = times + 1;
  qsort(others, --count, sizeof *others, by_size);
  printf("{\"first\":%.1f,\"median\":%.1f,\"p99\":%.1f,\"count\":%d,\"lost\":%d}\n", first, others[count / 2],
         others[count * 99 / 100], count, lost);
  return 0;
}

static struct tally tally_of(int fd) {
  struct tally tally;
  char packet[SIZE] = {TALLY};
  for (int tries = 0; tries < 20; tries++) {
    send(fd, packet, SIZE, 0);
    if (recv(fd, &tally, sizeof tally, 0) == sizeof tally) return tally;
  }
  errno = ETIMEDOUT;
  fail("ask how many came");
  return tally;
}

static int flood(char **argv) {
  static struct batch b;
  int fd = udp_to(argv, 500);
  struct tally before = tally_of(fd);
  uint64_t sent = 0, cpu = cpu_us();
  int64_t began = now_us(), over;
  prepare(&b, 0);
  for (int i = 0; i < BATCH; i++) b.bytes[i][0] = COUNT;
  for (over = began; over < began + atoi(argv[4]) * 1000LL; over = now_us()) {
    int n = sendmmsg(fd, b.messages, BATCH, 0);
    if (n > 0) sent += n;
  }
  cpu = cpu_us() - cpu;
  /* What is on its way arrives. */
  usleep(50000);
  struct tally after = tally_of(fd);
  printf("{\"sent\":%lu,\"received\":%lu,\"us\":%ld,\"cpu\":%lu}\n", sent, after.packets - before.packets, over - began,
         cpu + after.cpu_us - before.cpu_us);
  return 0;
}

static uint16_t checksum(const uint16_t *words, int count) {
  uint32_t sum = 0;
  while (count--) sum += *words++;
  sum = (sum >> 16) + (sum & 0xffff);
  return ~(sum + (sum >> 16));
}

/* The number of a ping of ours that this answers; 0 of none. */
static int answered(const unsigned char *bytes, ssize_t size, struct in_addr from) {
  const struct iphdr *ip = (const void *)bytes;
  if (size < (ssize_t)sizeof *ip || size < ip->ihl * 4 + 8 || ip->saddr != from.s_addr) return 0;
  const struct icmphdr *icmp = (const void *)(bytes + ip->ihl * 4);
  if (icmp->type != ICMP_ECHOREPLY || icmp->un.echo.id != htons(getpid())) return 0;
  return ntohs(icmp->un.echo.sequence);
}

static void ping_until_answered(int fd, const char *text) {
  static int64_t sent[65536];
  unsigned char bytes[256];
  struct sockaddr_in to = address_of(text, 0);
  int64_t end = now_us() + PING_MS * 1000LL, next = now_us();
  for (int number = 1; now_us() < end; next += PING_US) {
    if (number < 65535) {
      struct icmphdr ping = {.type = ICMP_ECHO, .un.echo = {.id = htons(getpid()), .sequence = htons(number)}};
      ping.checksum = checksum((void *)&ping, sizeof ping / 2);
      sent[number++] = now_us();
      sendto(fd, &ping, sizeof ping, 0, (void *)&to, sizeof to);
    }
    do {
      struct pollfd in = {.fd = fd, .events = POLLIN};
      int64_t left = next + PING_US - now_us();
      struct timespec wait = {.tv_nsec = left > 0 ? left * 1000 : 0};
      if (ppoll(&in, 1, &wait, NULL) <= 0) continue;
      int which = answered(bytes, recv(fd, bytes, sizeof bytes, MSG_DONTWAIT), to.sin_addr);
      if (!which) continue;
      printf("{\"sent\":%ld,\"answered\":%ld,\"number\":%d}\n", sent[which], now_us(), which);
      return;
    } while (now_us() < next + PING_US);
  }
  printf("{\"never\":true}\n");
}

static int reach(void) {
  char line[64];
  int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
  if (fd < 0) fail("socket");
  printf("ready\n");
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    ping_until_answered(fd, line);
  }
  return 0;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "serve") && argc == 3) return serve(atoi(argv[2]));
  if (!strcmp(what, "latency") && argc == 5) return latency(argv);
  if (!strcmp(what, "flood") && argc == 5) return flood(argv);
  if (!strcmp(what, "reach") && argc == 2) return reach();
  fprintf(stderr, "packets: it takes serve, latency, flood or reach\n");
  return 2;
}
