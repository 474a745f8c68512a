#!/bin/sh
# HAProxy as Ray Serve starts it (-db -f FILE ...): haproxy.py changes the file, then becomes HAProxy. Without the
# packages of the environment (-S), which it does not need, Python is ready in a few milliseconds.
exec "$DARKROOM_PYTHON" -I -S "$(dirname "$0")/haproxy.py" "$@"
