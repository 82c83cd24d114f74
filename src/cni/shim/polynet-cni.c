/*
 * What the container runtime executes, and what other plugins execute as their
 * IPAM: hands stdin and the CNI_* variables to the agent and prints its answer.
 * ../request.ts has the wire format. It knows no JSON beyond finding
 * cniVersion, so that it starts and ends within a millisecond.
 *
 * An agent that is replaced is back within seconds: it is waited for. While it
 * is away for longer, a DEL is written to the spool, which the agent works off
 * when it is back; GC succeeds without effect; the rest fails with a code that
 * lets the runtime try again. ../shim/fallback.ts does the same on Node.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CONFIG_LIMIT = 1 << 20, REPLY_LIMIT = 4 << 20, SPOOL_LIMIT = 10000, CHUNK = 1 << 16, QUEUE_MS = 5000 };

/* Room that nobody needs takes no memory: the kernel gives pages when they are touched. */
struct bytes {
  char *at;
  size_t length, limit;
};

static char config_room[CONFIG_LIMIT + CHUNK], frame_room[2 * CONFIG_LIMIT], reply_room[REPLY_LIMIT + CHUNK];
static struct bytes config = {config_room, 0, CONFIG_LIMIT}, frame = {frame_room, 0, 2 * CONFIG_LIMIT},
                    reply = {reply_room, 0, REPLY_LIMIT};

extern char **environ;
static long long deadline;
static char version[16] = "1.0.0";

static const char *setting(const char *name, const char *otherwise) {
  const char *value = getenv(name);
  return value && *value ? value : otherwise;
}

/* Prints an error as SPEC 1.1 has it, and ends. Characters that JSON would escape become '?'. */
static void fail(int code, const char *message, const char *details) {
  char clean[1024];
  size_t n = 0;
  for (; details[n] && n < sizeof clean - 1; n++) {
    unsigned char c = details[n];
    clean[n] = c < 0x20 || c > 0x7e || c == '"' || c == '\\' ? '?' : c;
  }
  clean[n] = 0;
  printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\",\"details\":\"%s\"}\n", version, code, message, clean);
  fflush(stdout);
  exit(1);
}

static void append(struct bytes *b, const void *from, size_t length) {
  if (b->length + length > b->limit)
    fail(4, "the CNI_ variables are larger than 1 MiB", "the container runtime sets them; report it to its makers");
  memcpy(b->at + b->length, from, length);
  b->length += length;
}

static long long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* Waits until fd can be read or written, or fails with ETIMEDOUT at the deadline. */
static int ready(int fd, short events) {
  for (;;) {
    long long left = deadline - now_ms();
    if (left <= 0) return errno = ETIMEDOUT, -1;
    struct pollfd p = {fd, events, 0};
    int n = poll(&p, 1, (int)left);
    if (n > 0) return 0;
    if (n < 0 && errno != EINTR) return -1;
  }
}

static int read_all(int fd, struct bytes *into) {
  for (;;) {
    if (ready(fd, POLLIN) < 0) return -1;
    ssize_t n = read(fd, into->at + into->length, CHUNK);
    if (n == 0) return 0;
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return -1;
    into->length += n;
    if (into->length > into->limit) return errno = EFBIG, -1;
  }
}

static int write_all(int fd, const char *from, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, from, length);
    if (n < 0 && errno == EAGAIN && ready(fd, POLLOUT) == 0) continue;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    from += n;
    length -= n;
  }
  return 0;
}

/* Takes the outermost object's cniVersion over into `version`, if it is there and looks like one. */
static void find_version(const char *at, const char *end) {
  int depth = 0;
  while (at < end) {
    char c = *at++;
    if (c == '{' || c == '[') depth++;
    if (c == '}' || c == ']') depth--;
    if (c != '"') continue;
    const char *start = at;
    while (at < end && *at != '"') at += *at == '\\' ? 2 : 1;
    if (at >= end) return;
    int wanted = depth == 1 && at - start == 10 && !memcmp(start, "cniVersion", 10);
    at++;
    if (!wanted) continue;
    while (at < end && isspace((unsigned char)*at)) at++;
    if (at >= end || *at++ != ':') continue;
    while (at < end && isspace((unsigned char)*at)) at++;
    if (at >= end || *at++ != '"') return;
    size_t n = 0;
    while (at + n < end && (isdigit((unsigned char)at[n]) || at[n] == '.')) n++;
    if (n == 0 || n >= sizeof version || at + n >= end || at[n] != '"') return;
    memcpy(version, at, n);
    version[n] = 0;
    return;
  }
}

/* How long an agent may be away before the shim helps itself. Who asks for an address is the agent's own child. */
static int patience(const char *command, const char *program) {
  const char *given = setting("POLYNET_WAIT_MS", "");
  if (*given) return atoi(given);
  if (!strcmp(command, "GC") || !strcmp(program, "polynet-ipam")) return 0;
  return !strcmp(command, "DEL") ? 1000 : 5000;
}

static void nap(void) {
  struct timespec t = {0, 50 * 1000000};
  nanosleep(&t, NULL);
}

/* Polynet was removed from the node on purpose. */
static int is_removed(void) { return !access(setting("POLYNET_REMOVED", "/var/lib/polynet/removed"), F_OK); }

/* Connects to the agent, which may be away for `away` ms, or have no place in its queue; the socket, or -1 with errno. */
static int reach(const struct sockaddr_un *to, int away) {
  for (long long began = 0;;) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (!connect(fd, (const struct sockaddr *)to, sizeof *to)) return fd;
    int why = errno;
    close(fd);
    if (!began) began = now_ms();
    long long wait = why == EAGAIN ? QUEUE_MS : (why == ENOENT || why == ECONNREFUSED) && !is_removed() ? away : 0;
    errno = why;
    if (now_ms() >= began + wait || now_ms() >= deadline) return -1;
    nap();
  }
}

/* Asks the agent; 0 when `reply` is whole, else -1 with errno. */
static int ask(const char *path, int away) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof to.sun_path) return errno = ENAMETOOLONG, -1;
  strcpy(to.sun_path, path);
  int fd = reach(&to, away);
  if (fd < 0) return -1;
  /* An agent that refuses a frame may answer and close before it has read all of it. */
  if (write_all(fd, frame.at, frame.length) < 0 && errno != EPIPE && errno != ECONNRESET) return -1;
  shutdown(fd, SHUT_WR);
  if (read_all(fd, &reply) < 0 && errno != ECONNRESET) return -1;
  const char *r = reply.at;
  size_t n = reply.length;
  if (n < 2 || !isdigit((unsigned char)r[0]) || r[1] != '\n' || r[n - 1] != '\n') return errno = EPROTO, -1;
  return 0;
}

/* Writes the frame into the spool, durably; files sort by when they were written. */
static int spool(const char *path) {
  char parent[256], temporary[64];
  snprintf(parent, sizeof parent, "%s", path);
  char *slash = strrchr(parent, '/');
  if (slash && slash > parent) *slash = 0, mkdir(parent, 0700);
  mkdir(path, 0700);
  DIR *list = opendir(path);
  if (!list) return -1;
  int dir = dirfd(list), held = 0;
  while (readdir(list)) held++;
  if (held > SPOOL_LIMIT) return errno = EDQUOT, -1;
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  snprintf(temporary, sizeof temporary, ".%012lld%09ld-%d", (long long)t.tv_sec, t.tv_nsec, (int)getpid());
  int fd = openat(dir, temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return -1;
  if (write_all(fd, frame.at, frame.length) == 0 && fsync(fd) == 0 && close(fd) == 0 &&
      renameat(dir, temporary, dir, temporary + 1) == 0)
    return fsync(dir);
  int why = errno;
  unlinkat(dir, temporary, 0);
  return errno = why, -1;
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  deadline = now_ms() + atoi(setting("POLYNET_TIMEOUT_MS", "110000"));
  const char *command = setting("CNI_COMMAND", ""), *program = argc > 0 ? argv[0] : "";
  if (strrchr(program, '/')) program = strrchr(program, '/') + 1;
  if (!*command)
    fail(4, "CNI_COMMAND is not set", "the container runtime executes this program; see the CNI specification, section 2");

  if (read_all(STDIN_FILENO, &config) < 0) {
    if (errno == EFBIG) fail(7, "the network configuration on stdin is larger than 1 MiB", "make it smaller");
    fail(5, "cannot read the network configuration from stdin", strerror(errno));
  }
  find_version(config.at, config.at + config.length);
  if (!strcmp(command, "VERSION")) {
    printf("{\"cniVersion\":\"%s\",\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n", version);
    return fflush(stdout) ? 1 : 0;
  }

  append(&frame, "polynet-cni/1 ", 14);
  append(&frame, program, strlen(program));
  append(&frame, "\n", 1);
  for (char **e = environ; *e; e++)
    if (!strncmp(*e, "CNI_", 4)) append(&frame, *e, strlen(*e) + 1);
  append(&frame, "", 1);
  append(&frame, config.at, config.length);

  const char *path = setting("POLYNET_SOCKET", "/run/polynet/agent.sock");
  if (ask(path, patience(command, program)) == 0) {
    int code = reply.at[0] - '0';
    return write_all(STDOUT_FILENO, reply.at + 2, reply.length - 2) < 0 ? 1 : code;
  }
  char why[512];
  snprintf(why, sizeof why, "%s: %s; look at the polynet agent on this node", path, strerror(errno));
  if (!strcmp(command, "GC")) return 0;
  if (strcmp(command, "DEL")) {
    int code = !strcmp(command, "STATUS") ? 50 : 11;
    if (is_removed())
      fail(code, "polynet was removed from this node", "install it again, or replace its conf in the CNI directory by another plugin's");
    fail(code, "the polynet agent on this node does not answer", why);
  }
  const char *dir = setting("POLYNET_SPOOL", "/var/lib/polynet/spool");
  deadline = now_ms() + 5000;
  if (spool(dir) == 0) return 0;
  snprintf(why, sizeof why, "%s: %s; make room there, or start the polynet agent on this node", dir, strerror(errno));
  fail(11, "the polynet agent does not answer and the DEL cannot be kept for it", why);
}
