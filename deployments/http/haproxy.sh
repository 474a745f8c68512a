#!/bin/sh
# Started by Ray Serve in place of HAProxy (-db -f FILE ...): haproxy.py changes the file, then replaces itself with
# HAProxy. It needs no installed packages, and without them (-S) Python starts in a few milliseconds.
exec "$DARKROOM_PYTHON" -I -S "$(dirname "$0")/haproxy.py" "$@"
