#!/bin/sh
# A virtual environment with this checkout in it: lab/venv.sh FOLDER REQUIREMENT
# Needs a Python of 3.11 or later; on Debian and Ubuntu it is installed when it is missing.
set -eu
folder=$1 requirement=$2

# The system's own comes first: it is the one that python3-venv is for.
find_python() {
    for name in python3 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null 2>&1 && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

install() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "make: $1 is missing; install it (Debian: apt-get install $2), then try again" >&2
        exit 1
    fi
    echo "make: installing $2" >&2
    DEBIAN_FRONTEND=noninteractive apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $2 >/dev/null
}

python=$(find_python) || { install "Python 3.11 or later" "python3 python3-venv"; python=$(find_python); } || {
    echo "make: no Python of 3.11 or later was found" >&2
    exit 1
}
if [ ! -x "$folder/bin/pip" ]; then
    "$python" -c 'import ensurepip' 2>/dev/null || install "Python's venv module" python3-venv
    "$python" -m venv "$folder"
fi
"$folder/bin/pip" install --quiet --disable-pip-version-check --editable "$requirement"
