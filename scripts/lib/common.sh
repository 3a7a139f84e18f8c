# shellcheck shell=bash
# What the scripts share. Sourced, never run.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
  say "$*"
  exit 1
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -- "$@"
  else
    die "needs root for '$*', and there is no sudo"
  fi
}

# apt_install PACKAGE... : Debian's packages. Everything apt prints goes to
# standard error, because standard output is often read by `eval`.
apt_install() {
  command -v apt-get >/dev/null || die "please install by hand: $* (there is no apt-get here)"
  say "installing $*"
  as_root apt-get -q update >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" >&2
}

has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# make_venv DIR : a virtual environment of Python.
make_venv() {
  local python=python3
  if ! has_venv "$python"; then
    # Debian's own, because another python3 may come first in PATH and not use Debian's packages.
    python=/usr/bin/python3
    has_venv "$python" || apt_install python3 python3-venv
  fi
  "$python" -m venv "$1" >&2
}

# A few crates compile C (the bundled SQLite, the cryptography), and Rust links with cc.
ensure_cc() {
  command -v cc >/dev/null || apt_install gcc libc6-dev
}

# A port nobody listens on, below the range that the kernel hands out to clients. Somebody else may still take it
# before its server does.
free_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM << 15 | RANDOM) % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  printf '%s' "$port"
}

# random_hex BYTES : as many random bytes, in hexadecimal digits.
random_hex() { od -An -v -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
