#!/usr/bin/env bash
# Opens a scene in the window, or renders its view to a picture where there is no display.
set -euo pipefail

scene=${1:?"usage: tools/open.sh SCENE"}
viewer=$(dirname "$0")/../.venv/bin/landmark-viewer
picture=$(basename "${scene%.*}").png

if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    code=0
    "$viewer" "$scene" || code=$?
    [ $code -eq 2 ] || exit $code # 2: the display cannot be used
fi
"$viewer" render "$scene" -o "$picture"
echo "There is no display: the view of $scene is in $PWD/$picture."
echo "Where there is one, this opens the window: make run SCENE=$scene"
