/* The workload of the bench: appends the time of its first instruction to a file, then waits to be ended.
 *   stamp FILE */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv) {
    struct timespec now;
    char line[64];
    int file, length;

    clock_gettime(CLOCK_REALTIME, &now);
    if (argc != 2 || (file = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0644)) < 0) return 1;
    length = snprintf(line, sizeof line, "%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec);
    if (write(file, line, length) != length) return 1;
    close(file);
    /* As pid 1 it has no default action for SIGTERM. */
    signal(SIGTERM, end);
    for (;;) pause();
}
