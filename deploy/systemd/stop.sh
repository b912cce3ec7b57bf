#!/bin/sh
# Stops the gateway without cutting off a request. At the first SIGINT it takes no new connection, but then it waits for
# instances that have nothing to do, too. Its requests are over when GATEWAY_DEADLINE_SECONDS are; systemd sends the second
# SIGINT when this script ends.
set -eu

# Of a service that has ended by itself there is nothing left to stop, and systemd names no process then.
process=${1-}
[ -n "$process" ] && kill -INT "$process" || exit 0
left=${GATEWAY_DEADLINE_SECONDS:-10}
while [ "$left" -ge 0 ] && kill -0 "$process" 2>/dev/null; do
    sleep 1
    left=$((left - 1))
done
