# Sourced by the scripts beside it: `environment NAME` makes .venv/NAME with a Python of at least 3.11 and sets $bin.
environment() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "${python:-}" ]; then
        echo "simkit needs Python 3.11 or newer, and none was found; install one, or name it: PYTHON=/path/to/python $0" >&2
        exit 2
    fi
    bin=.venv/$1/bin
    if [ ! -x "$bin/pip" ] && ! "$python" -m venv ".venv/$1"; then
        echo "$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 2
    fi
    # Left over from an older checkout, these would find their way into the wheel.
    rm -rf build ./*.egg-info
}

# Installs quietly, and shows what pip said only when it failed.
install() {
    if ! "$bin/pip" install --disable-pip-version-check --quiet "$@" >.venv/pip.log 2>&1; then
        cat .venv/pip.log >&2
        echo "installation failed; the lines above say why (a closed network? a full disk?)" >&2
        exit 1
    fi
}
