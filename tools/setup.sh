#!/usr/bin/env bash
# Prepares this checkout: `tools/setup.sh run` for the viewer, `tools/setup.sh test` for the tests as well.
# Non-interactive. As root it installs missing Debian packages; otherwise it names the command that does.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:?"usage: tools/setup.sh run|test"}
python=${PYTHON:-python3}
torch_index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}

# Debian and Ubuntu packages. g++ builds the fast renderer (without it a slower one serves), the libraries open the window.
packages=(python3 python3-venv g++ libgl1 libgl1-mesa-dri libx11-6)
if [ "$purpose" = test ]; then
    packages+=(xvfb xdotool) # the tests drive the window on a display of their own
fi

is_installed() {
    case $1 in # what serves from another source needs no package
        python3) command -v "$python" >/dev/null && return ;;
        python3-venv) "$python" -c 'import ensurepip, venv' 2>/dev/null && return ;;
        g++) command -v "${CXX:-g++}" >/dev/null && return ;;
    esac
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_system_packages() {
    local missing=() package
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "setup: this is neither Debian nor Ubuntu; please install what these packages hold: ${missing[*]}" >&2
    elif [ "$(id -u)" = 0 ]; then
        echo "setup: installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq >/dev/null
        apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
    else
        echo "setup: missing system packages; please run:" >&2
        echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    fi
}

require_python() {
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        echo "setup: Python 3.10 or newer is needed, $("$python" --version 2>&1 || echo "$python is not there"); name one with PYTHON=..." >&2
        exit 1
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "setup: $python cannot make virtual environments; please install python3-venv" >&2
        exit 1
    fi
}

install_python_packages() {
    local pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input install -c constraints.txt)
    [ -t 1 ] || pip+=(-qq)
    # An environment of another place (a moved or copied checkout) or of a Python that is gone is made anew.
    if [ "$(cat .venv/place 2>/dev/null)" != "$PWD" ] || ! .venv/bin/python -c '' 2>/dev/null; then
        "$python" -m venv --clear .venv
        echo "$PWD" >.venv/place
    fi
    echo "setup: installing Python packages into .venv (once; some 400 MB)"
    "${pip[@]}" pip setuptools
    if [ -n "$torch_index" ] && ! .venv/bin/python -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then
        # PyTorch's own index holds the CPU build, a tenth of the size of the usual one with CUDA.
        "${pip[@]}" --retries 1 --timeout 15 --no-deps --index-url "$torch_index" torch ||
            echo "setup: $torch_index was no help; taking torch from where pip usually looks" >&2
    fi
    local extra=""
    [ "$purpose" = run ] || extra="[dev]"
    "${pip[@]}" --no-build-isolation -e ".$extra"
}

install_system_packages
require_python
install_python_packages
.venv/bin/python -m landmark_viewer.cuda.build
