#!/usr/bin/env bash
# Make .venv beside this checkout and install the project into it, once: `scripts/install.sh [EXTRA]`.
# Does nothing when the environment already holds what pyproject.toml asks for. PYTHON chooses the interpreter.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
extra=${1:-mini}
python=${PYTHON:-python3}

stamp=.venv/.installed-$extra
wanted=$(sha256sum pyproject.toml | cut -d ' ' -f 1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "$0: Python 3.11 or newer is needed; set PYTHON=... to one" >&2
  exit 2
}
if [ ! -x .venv/bin/python ]; then
  free_mb=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1024))
  if [ "$free_mb" -lt 9000 ]; then # 6 GB, and the packages themselves while they are unpacked
    echo "$0: $PWD has $free_mb MB free; the environment needs 9000: free some, or clone onto another disk" >&2
    exit 2
  fi
  "$python" -m venv .venv
fi
echo "installing acoustic[$extra] into .venv (PyTorch with CUDA is about 5 GB)" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extra]"
echo "$wanted" > "$stamp"
