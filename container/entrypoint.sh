#!/bin/sh
# What the container runs: a BIDS App where it is called as one (/data /out participant ...), any verb otherwise.
set -eu

# The root may be read-only, the user unknown to the system, and HOME of the host or of nobody.
for folder in "${TMPDIR:-/tmp}" /tmp /dev/shm; do
    if [ -d "$folder" ] && [ -w "$folder" ]; then
        TMPDIR=$folder
        break
    fi
done
if [ ! -w "${HOME:-/nonexistent}" ]; then
    HOME=$TMPDIR
fi
export HOME TMPDIR
export LOGNAME="${LOGNAME:-medrestore}"
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$TMPDIR/cache}"
export MPLCONFIGDIR="${MPLCONFIGDIR:-$TMPDIR/matplotlib}"
# Packages of the host, which Apptainer shows, stay outside.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP
export PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1

case "${3-}" in
    participant | group) set -- bids "$@" ;;
esac
exec "$(dirname "$0")/medrestore" "$@"
