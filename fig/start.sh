#!/bin/sh
# Runs a command as the user pilotfish. Of root's rights it keeps one, ports below 1024; where the Docker socket is mounted,
# the user also gets the socket's group, whatever its number is on this host.
set -eu

if [ "$(id -u)" != 0 ]; then
    exec "$@"
fi

groups=9700
socket=/var/run/docker.sock
if [ -S "$socket" ]; then
    groups="$groups,$(stat -c %g "$socket")"
fi
set -- --reuid 9700 --regid 9700 --groups "$groups" --no-new-privs -- "$@"

keep="--inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service --bounding-set=-all,+net_bind_service"
# shellcheck disable=SC2086
if setpriv $keep --reuid 9700 --regid 9700 --groups "$groups" -- true 2>/dev/null; then
    exec setpriv $keep "$@"
fi
exec setpriv "$@"
