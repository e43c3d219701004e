#!/usr/bin/env bash
# The main job on a corpus made here, offline: from audio to word error rate. Installs everything first.
# Options are those of recipes/mini/run.sh, for example `scripts/demo.sh --exp /tmp/mini model.hidden_layers=2`.
set -euo pipefail
root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/install.sh" mini
exec "$root/recipes/mini/run.sh" "$@"
