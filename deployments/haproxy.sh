#!/bin/sh
# HAProxy as Ray Serve starts it (-db -f FILE ...), with its pages of statistics and metrics on loopback: Serve's template
# opens both on all interfaces and has no setting for that. $DARKROOM_HAPROXY is HAProxy itself.
set -eu
sed -i \
    -e '/^frontend prometheus$/,/^ *bind / s/^\( *bind \):/\1127.0.0.1:/' \
    -e '/^listen stats$/,/^ *bind / s/^\( *bind \)\*:/\1127.0.0.1:/' \
    "$3"
exec "$DARKROOM_HAPROXY" "$@"
