/*
 * The least that a UDP gateway with a socket for each client can do: receive, find the client, send; and back.
 *
 *     floor LISTEN TARGET [calls] [connected] [two]
 *
 * One process, IPv4, version 2 headers without TLVs, and nothing that a gateway for use has beside that: no policy, no
 * limits, no time-outs, no counters, no second family, no end. What it costs is what the kernel wants for two receives
 * and two sends in batches; only the rest can be saved in a gateway that makes the same calls
 * (docs/benchmarks/profile-udp.md).
 *
 * With `two` there are two processes, to which the kernel gives datagrams by the balancer's port.
 * With `calls` each datagram to and from the target is a system call; else they share one of io_uring, as in mmproxy.
 * With `connected` each flow has a second socket, connected to its balancer, so that the kernel looks up neither routes
 * nor a listener. Such a socket may get another balancer's datagrams before it is connected: this is no way to serve.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BATCH = 64, SIZE = 2048, FLOWS = 1 << 14, PLACES = 2 * FLOWS, BUFFER = 4 << 20 };

struct flow {
    struct sockaddr_in client, balancer;
    int target, back;
};

/* What an event is about; a flow's number is in the bits above. */
enum { REPLY, QUESTION, LISTENER };

static struct sockaddr_in listen_at, target_at;
static int listener, events, share = 1, connected;

static struct flow flows[FLOWS];
static unsigned count, places[PLACES];

static char questions[BATCH][SIZE], replies[BATCH][SIZE];

/* Calls that are to be made, and what came of the last ones. */
static int results[BATCH];
static unsigned queued;

static struct {
    int fd;
    unsigned *sq_tail, *sq_mask, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
} ring;

static int must(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static void *map(size_t size, off_t what)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, what);
    must(at == MAP_FAILED ? -1 : 0, "mmap");
    return at;
}

static void open_ring(void)
{
    struct io_uring_params params = {0};
    ring.fd = must(syscall(SYS_io_uring_setup, BATCH, &params), "io_uring_setup");
    /* Both queues are in one piece since Linux 5.4. */
    char *queues = map(params.cq_off.cqes + params.cq_entries * sizeof *ring.cqes, IORING_OFF_SQ_RING);
    ring.sqes = map(params.sq_entries * sizeof *ring.sqes, IORING_OFF_SQES);
    ring.sq_tail = (unsigned *)(queues + params.sq_off.tail);
    ring.sq_mask = (unsigned *)(queues + params.sq_off.ring_mask);
    ring.cq_head = (unsigned *)(queues + params.cq_off.head);
    ring.cq_tail = (unsigned *)(queues + params.cq_off.tail);
    ring.cq_mask = (unsigned *)(queues + params.cq_off.ring_mask);
    ring.cqes = (struct io_uring_cqe *)(queues + params.cq_off.cqes);
    unsigned *array = (unsigned *)(queues + params.sq_off.array);
    for (unsigned entry = 0; entry < params.sq_entries; entry++)
        array[entry] = entry;
}

static void queue(int operation, int socket, char *bytes, unsigned length)
{
    unsigned number = queued++;
    if (!share) {
        results[number] = operation == IORING_OP_SEND ? send(socket, bytes, length, MSG_DONTWAIT)
                                                      : recv(socket, bytes, length, MSG_DONTWAIT);
        return;
    }
    ring.sqes[(*ring.sq_tail + number) & *ring.sq_mask] = (struct io_uring_sqe){
        .opcode = operation,
        .fd = socket,
        .addr = (uintptr_t)bytes,
        .len = length,
        .msg_flags = MSG_DONTWAIT,
        .user_data = number,
    };
}

/* Makes the calls that were queued. */
static void make(void)
{
    unsigned many = queued;
    queued = 0;
    if (many == 0 || !share)
        return;
    __atomic_store_n(ring.sq_tail, *ring.sq_tail + many, __ATOMIC_RELEASE);
    must(syscall(SYS_io_uring_enter, ring.fd, many, many, IORING_ENTER_GETEVENTS, NULL, 0), "io_uring_enter");
    unsigned head = *ring.cq_head, tail = __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) {
        const struct io_uring_cqe *done = &ring.cqes[head & *ring.cq_mask];
        results[done->user_data] = done->res;
    }
    __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
}

static void watch(int socket, uint64_t name)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = name};
    must(epoll_ctl(events, EPOLL_CTL_ADD, socket, &event), "epoll_ctl");
}

static int udp(void)
{
    return must(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), "socket");
}

static void set(int socket, int level, int option, int value)
{
    must(setsockopt(socket, level, option, &value, sizeof value), "setsockopt");
}

static void at(int (*call)(int, const struct sockaddr *, socklen_t), int socket,
               const struct sockaddr_in *address)
{
    must(call(socket, (const struct sockaddr *)address, sizeof *address), "bind or connect");
}

static int toward_balancers(void)
{
    int socket = udp();
    set(socket, SOL_SOCKET, SO_REUSEPORT, 1);
    set(socket, SOL_SOCKET, SO_RCVBUF, BUFFER);
    set(socket, SOL_SOCKET, SO_SNDBUF, BUFFER);
    at(bind, socket, &listen_at);
    return socket;
}

/* The flow of a client, which is opened if there is none. */
static struct flow *find(const struct sockaddr_in *client, const struct sockaddr_in *balancer)
{
    unsigned place = (client->sin_addr.s_addr * 2654435761u ^ client->sin_port * 40503u) % PLACES;
    for (; places[place] != 0; place = (place + 1) % PLACES) {
        struct flow *flow = &flows[places[place] - 1];
        if (flow->client.sin_addr.s_addr == client->sin_addr.s_addr && flow->client.sin_port == client->sin_port) {
            flow->balancer = *balancer;
            return flow;
        }
    }
    must(count == FLOWS ? -1 : 0, "too many flows");
    uint64_t number = count++;
    struct flow *flow = &flows[number];
    places[place] = count;
    *flow = (struct flow){.client = *client, .balancer = *balancer, .target = udp(), .back = listener};
    set(flow->target, IPPROTO_IP, IP_TRANSPARENT, 1);
    set(flow->target, SOL_SOCKET, SO_REUSEADDR, 1);
    at(bind, flow->target, client);
    at(connect, flow->target, &target_at);
    watch(flow->target, number << 2 | REPLY);
    if (connected) {
        flow->back = toward_balancers();
        at(connect, flow->back, balancer);
        watch(flow->back, number << 2 | QUESTION);
    }
    return flow;
}

/* Queues what is behind the header of a balancer's datagram. */
static void question(char *bytes, int length, const struct sockaddr_in *balancer)
{
    static const char start[] = "\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c";
    if (length < 28 || memcmp(bytes, start, 16) != 0)
        return;
    struct sockaddr_in client = {.sin_family = AF_INET};
    memcpy(&client.sin_addr, bytes + 16, sizeof client.sin_addr);
    memcpy(&client.sin_port, bytes + 24, sizeof client.sin_port);
    struct flow *flow = find(&client, balancer);
    queue(IORING_OP_SEND, flow->target, bytes + 28, length - 28);
}

static void replies_of(struct flow **ready, int many)
{
    static struct iovec vectors[BATCH];
    static struct mmsghdr messages[BATCH];
    int lengths[BATCH], waiting = 0;
    for (int number = 0; number < many; number++)
        queue(IORING_OP_RECV, ready[number]->target, replies[number], SIZE);
    make();
    memcpy(lengths, results, sizeof lengths);
    for (int number = 0; number < many; number++) {
        if (lengths[number] < 0)
            continue;
        if (connected) {
            queue(IORING_OP_SEND, ready[number]->back, replies[number], lengths[number]);
            continue;
        }
        vectors[waiting] = (struct iovec){.iov_base = replies[number], .iov_len = lengths[number]};
        messages[waiting].msg_hdr = (struct msghdr){
            .msg_name = &ready[number]->balancer,
            .msg_namelen = sizeof ready[number]->balancer,
            .msg_iov = &vectors[waiting],
            .msg_iovlen = 1,
        };
        waiting++;
    }
    make();
    if (waiting > 0)
        sendmmsg(listener, messages, waiting, MSG_DONTWAIT);
}

static void questions_of(struct flow **ready, int many)
{
    int lengths[BATCH];
    for (int number = 0; number < many; number++)
        queue(IORING_OP_RECV, ready[number]->back, questions[number], SIZE);
    make();
    memcpy(lengths, results, sizeof lengths);
    for (int number = 0; number < many; number++)
        question(questions[number], lengths[number], &ready[number]->balancer);
    make();
}

static void arrivals(void)
{
    static struct sockaddr_in from[BATCH];
    static struct iovec vectors[BATCH];
    static struct mmsghdr messages[BATCH];
    for (int number = 0; number < BATCH; number++) {
        vectors[number] = (struct iovec){.iov_base = questions[number], .iov_len = SIZE};
        messages[number].msg_hdr = (struct msghdr){
            .msg_name = &from[number],
            .msg_namelen = sizeof from[number],
            .msg_iov = &vectors[number],
            .msg_iovlen = 1,
        };
    }
    int many = recvmmsg(listener, messages, BATCH, MSG_DONTWAIT, NULL);
    for (int number = 0; number < many; number++)
        question(questions[number], messages[number].msg_len, &from[number]);
    make();
}

static struct sockaddr_in address(char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char *colon = strrchr(text, ':');
    if (colon != NULL) {
        *colon = '\0';
        address.sin_port = htons(atoi(colon + 1));
    }
    must(colon != NULL && inet_pton(AF_INET, text, &address.sin_addr) == 1 ? 0 : -1, text);
    return address;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s LISTEN TARGET [calls] [connected] [two]\n", argv[0]);
        return 64;
    }
    listen_at = address(argv[1]);
    target_at = address(argv[2]);
    for (int word = 3; word < argc; word++) {
        share &= strcmp(argv[word], "calls") != 0;
        connected |= strcmp(argv[word], "connected") == 0;
        if (strcmp(argv[word], "two") == 0 && must(fork(), "fork") == 0)
            prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    events = must(epoll_create1(0), "epoll_create1");
    listener = toward_balancers();
    watch(listener, LISTENER);
    open_ring();
    for (;;) {
        struct epoll_event ready[BATCH];
        struct flow *answered[BATCH], *asking[BATCH];
        int many = epoll_wait(events, ready, BATCH, -1), answers = 0, askers = 0, arrived = 0;
        for (int number = 0; number < many; number++) {
            uint64_t name = ready[number].data.u64;
            switch (name & 3) {
            case REPLY:
                answered[answers++] = &flows[name >> 2];
                break;
            case QUESTION:
                asking[askers++] = &flows[name >> 2];
                break;
            default:
                arrived = 1;
            }
        }
        replies_of(answered, answers);
        questions_of(asking, askers);
        if (arrived)
            arrivals();
    }
}
