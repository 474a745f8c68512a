#!/bin/sh
# HAProxy as Ray Serve starts it (-db -f FILE ...), with four things that Serve's template has no setting for: its pages
# of statistics and metrics are on loopback, not on all interfaces; a client has 10 s for the headers of a request, or
# it could hold its connection for weeks by sending a byte a minute; and it has no more threads than there are cores,
# which would only take turns. It tells replicas the address of a client (source.py). $DARKROOM_HAPROXY is HAProxy itself.
set -eu
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # Ray sets the first one, and nproc would believe it
threads=$(sed -n 's/^ *nbthread *//p' "$3")
threads=${threads:-1}
sed -i \
    -e '/^frontend prometheus$/,/^ *bind / s/^\( *bind \):/\1127.0.0.1:/' \
    -e '/^listen stats$/,/^ *bind / s/^\( *bind \)\*:/\1127.0.0.1:/' \
    -e '/^frontend http_frontend$/,/^ *bind / {/^ *bind /a\
    http-request set-header x-darkroom-source "%[src] ${DARKROOM_PROXY_SECRET}"
}' \
    -e '/^defaults$/a\    timeout http-request 10s' \
    -e "s/^\( *nbthread \).*/\1$((threads < cores ? threads : cores))/" \
    "$3"
exec "$DARKROOM_HAPROXY" "$@"
