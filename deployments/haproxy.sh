#!/bin/sh
# HAProxy as Ray Serve starts it (-db -f FILE ...), with two things that Serve's template has no setting for: its pages of
# statistics and metrics are on loopback, not on all interfaces; and a client has 10 s for the headers of a request, or
# it could hold its connection for weeks by sending a byte a minute. $DARKROOM_HAPROXY is HAProxy itself.
set -eu
sed -i \
    -e '/^frontend prometheus$/,/^ *bind / s/^\( *bind \):/\1127.0.0.1:/' \
    -e '/^listen stats$/,/^ *bind / s/^\( *bind \)\*:/\1127.0.0.1:/' \
    -e '/^defaults$/a\    timeout http-request 10s' \
    "$3"
exec "$DARKROOM_HAPROXY" "$@"
