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

# Installs what locks/NAME.txt says and nothing else, then simkit, built with the setuptools that the lock names.
# The locks hold all dependencies of their packages, so none is looked up.
install_locked() {
    install --no-deps --require-hashes -r "locks/$1.txt"
    install --no-deps --no-build-isolation .
}

# torch stands outside the locks: its builds differ by machine. Its own dependencies are in locks/train.txt.
# The `+cpu` keeps pip from taking the build for GPUs, of several gigabytes.
torch=torch==2.13.0+cpu

# Sets $serving to 1 and installs torch if this machine shall test what needs it, else to 0. SIMKIT_TEST_SERVING=1 asks
# for it; CI=true tries.
install_torch() {
    serving=${SIMKIT_TEST_SERVING:-0}
    if [ "$serving" != 0 ]; then
        serving=1
        "$bin/pip" install --quiet --no-deps "$torch" >.venv/pip.log 2>&1 ||
            install --no-deps "$torch" --index-url https://download.pytorch.org/whl/cpu
    elif [ "${CI:-}" = true ] && "$bin/pip" install --quiet --no-deps "$torch" >.venv/pip.log 2>&1; then
        serving=1
    fi
    export SIMKIT_TEST_SERVING="$serving"
}

# Installs Debian's Chromium if there is none, and root and apt are to be had. A failed attempt is not repeated.
install_chromium() {
    [ -z "${SIMKIT_CHROMIUM:-}" ] && ! command -v chromium >/dev/null || return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ ! -e .venv/apt.log ] || return 0
    echo "installing chromium for the tests of the viewer's pages"
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y chromium; } >.venv/apt.log 2>&1; then
        echo "chromium could not be installed, so tests are skipped (.venv/apt.log says why)"
    fi
}

# The uv that resolves versions for scripts/lock and for the lowest ones.
uv=uv==0.13.9

# Installs simkit with the lowest versions of its dependencies that pyproject.toml allows. install_lowest EXTRAS
install_lowest() {
    install "$uv"
    echo torch >"$bin/../outside.txt"
    "$bin/uv" pip compile --quiet --resolution lowest-direct --python "$bin/python" --excludes "$bin/../outside.txt" \
        --no-annotate --no-header --output-file "$bin/../lowest.txt" --extra "${1%%,*}" --extra "${1##*,}" pyproject.toml
    install --no-deps -r "$bin/../lowest.txt" 'setuptools>=77'
    install --no-deps --no-build-isolation .
}

# Links simkit/agents to agents, and so on, for tools that read the checkout. Nothing deletes them, and wheels leave them
# out.
link_rooms() {
    for room in agents users tools rewards recipes; do
        ln -sfn "../$room" "simkit/$room"
    done
}
