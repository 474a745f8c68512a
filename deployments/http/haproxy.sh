#!/bin/sh
# Started by Ray Serve in place of HAProxy (-db -f FILE ...): haproxy.py changes the file, then replaces itself with
# HAProxy. It needs no installed packages, and without them (-S) Python starts in a few milliseconds.
program='import sys; sys.path.append(sys.argv.pop(1)); from deployments.http.haproxy import main; main(sys.argv[1:])'
exec "$DARKROOM_PYTHON" -I -S -c "$program" "$(dirname "$0")/../.." "$@"
