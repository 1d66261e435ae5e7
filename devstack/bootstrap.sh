#!/usr/bin/env bash
# Makes .venv (server and development) and .venv-host (what a contributor's host has: no Django) from the locked,
# hashed requirements. Does nothing, quickly, when both are up to date. Needs Python 3.11 or newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# A stamp names everything an environment depends on, the place included: scripts hold absolute paths.
stamp_of() { { printf '%s\n' "$root"; cat "$1" devstack/bootstrap.sh; } | sha256sum | cut -d' ' -f1; }
is_current() { [ -x "$1/bin/python" ] && [ "$(cat "$1/.stamp" 2>/dev/null)" = "$2" ] && "$1/bin/python" -S -c ''; }

server_stamp=$(stamp_of requirements-dev.txt)
host_stamp=$(stamp_of workers/requirements.txt)
if is_current .venv "$server_stamp" && is_current .venv-host "$host_stamp"; then exit 0; fi

fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }
say() { printf 'setup: %s\n' "$*"; }

# Two `make` at once: the second waits, then finds everything done.
exec 9>.venv.lock
flock 9
if is_current .venv "$server_stamp" && is_current .venv-host "$host_stamp"; then exit 0; fi

python=
for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || fail "expected Python 3.11 or newer, found $(python3 --version 2>&1 || true)." \
  "Install it (Debian 12: apt-get install python3 python3-venv), or name it: make setup PYTHON=/path/to/python3.11"

# Debian ships Python without ensurepip, which `python3 -m venv` needs for pip.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing python3-venv"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; } >/dev/null \
      || fail "apt-get could not install python3-venv." "Install it by hand, then run this again."
  else
    fail "expected Python's venv module with ensurepip, found none." \
      "Install it (Debian: sudo apt-get install python3-venv), then run this again."
  fi
fi

# uv reads neither pip.conf nor PIP_*: give it what pip was told (mirror, extra indexes, wheels, CA bundle).
# All the indexes count, as for pip; the hashes decide what may be installed.
pip_settings_for_uv() {
  local line key value
  while IFS= read -r line; do
    key=${line%%=*}; key=${key##*.}; value=${line#*=}; value=${value#[\'\"]}; value=${value%[\'\"]}
    value=${value//\\n/ }
    [ -n "$value" ] || continue
    case $key in
      index-url) export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$value} ;;
      extra-index-url) export UV_INDEX=${UV_INDEX:-$value} ;;
      find-links) export UV_FIND_LINKS=${UV_FIND_LINKS:-$(printf '%s' "$value" | xargs | tr ' ' ',')} ;;
      trusted-host) export UV_INSECURE_HOST=${UV_INSECURE_HOST:-$value} ;;
      default-timeout | timeout) export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-$value} ;;
      cert) export SSL_CERT_FILE=${SSL_CERT_FILE:-$value} ;;
    esac
  done < <(.venv/bin/python -m pip config list 2>/dev/null | sort -s -t. -k1,1)  # ":env:" sorts before the files
  export UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match} UV_NO_CONFIG=1 UV_NO_PROGRESS=1
  [ -w "${HOME:-/nonexistent}" ] || export UV_CACHE_DIR=${UV_CACHE_DIR:-$root/.venv/uv-cache}
}

# install PLACE LOCK: exactly what the lock file names.
install_locked() {
  if [ -x .venv/bin/uv ] && .venv/bin/uv pip sync --quiet --require-hashes --python "$1/bin/python" "$2" 2>"$log"; then
    return
  fi
  say "uv could not install $2 ($(grep -v '^ *$' "$log" | head -n 1 || true)); trying pip"
  if ! "$1/bin/python" -m pip --version >/dev/null 2>&1; then "$1/bin/python" -m ensurepip >/dev/null; fi
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$2" \
    || fail "neither uv nor pip could install $2; the reason is above." \
      "Behind a proxy or mirror, set PIP_INDEX_URL and PIP_CERT (or pip.conf) as for any pip install, and run this again."
}

# The project itself, without building it: its folder on the path, and the nexa command.
link_project() {
  local packages
  packages=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf '%s\n' "$root" >"$packages/nexapod-checkout.pth"
  printf '#!%s\nimport sys\n\nfrom client.cli import main\n\nsys.exit(main())\n' "$root/$1/bin/python" >"$1/bin/nexa"
  chmod 755 "$1/bin/nexa"
}

# make_environment PLACE LOCK STAMP [venv options]
make_environment() {
  local place=$1 lock=$2 stamp=$3
  shift 3
  if is_current "$place" "$stamp"; then return; fi
  say "making $place from $lock"
  rm -f "$place/.stamp"
  # An environment of another Python, moved or half made, is made again; else only the difference is installed.
  if ! grep -qF "$root/$place" "$place/bin/activate" 2>/dev/null || ! "$place/bin/python" -c '' 2>/dev/null; then
    rm -rf "$place"
    "$python" -m venv "$@" "$place"
  fi
  if [ "$place" = .venv ] && [ ! -x .venv/bin/uv ]; then
    awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' requirements-dev.txt >"$uv_lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$uv_lock" \
      || say "pip could not install uv"
  fi
  pip_settings_for_uv
  install_locked "$place" "$lock"
  link_project "$place"
  printf '%s\n' "$stamp" >"$place/.stamp"
}

log=$(mktemp) uv_lock=$(mktemp)
trap 'rm -f "$log" "$uv_lock"' EXIT
make_environment .venv requirements-dev.txt "$server_stamp"
make_environment .venv-host workers/requirements.txt "$host_stamp" --without-pip
