#!/bin/sh
# What Serve starts as HAProxy: the door reads the configuration, mends it, and becomes HAProxy (same process).
exec "$ORCHESTRATOR_PYTHON" -I -S "$(dirname "$0")/haproxy_door.py" "$@"
