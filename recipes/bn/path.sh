# Puts `acoustic` on PATH; to be sourced.
. "$(dirname "${BASH_SOURCE[0]}")/../common/path.sh"
