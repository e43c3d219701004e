# Puts `acoustic`, and the Python it is installed for, on PATH; to be sourced.
root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -x "$root/.venv/bin/acoustic" ]; then
  export PATH="$root/.venv/bin:$PATH"
fi
if ! command -v acoustic > /dev/null; then
  echo "acoustic is not on PATH: run scripts/install.sh once, or activate the environment it is installed in" >&2
  exit 2
fi
export LC_ALL=C
