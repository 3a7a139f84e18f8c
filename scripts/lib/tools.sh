# shellcheck shell=bash
# Cargo's tools that the checks need, in a cache of the project's own: nothing is added to the user's ~/.cargo. Sourced after
# common.sh, never run.

readonly TOOLS=${XDG_CACHE_HOME:-$HOME/.cache}/relaypost/tools

# cargo_tool NAME VERSION : makes `NAME` of that version the first one in PATH.
cargo_tool() {
  PATH=$TOOLS/bin:$PATH
  [[ $(installed_version "$1") != "$2" ]] || return 0
  mkdir -p "$TOOLS"
  # Two runs may want it at once.
  exec 8>"$TOOLS/lock"
  flock 8
  if [[ $(installed_version "$1") != "$2" ]]; then
    say "installing $1 $2 in $TOOLS; once, about five minutes"
    ensure_cc
    # Its own target folder, because the product's may be set and is not for tools.
    env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$TOOLS" --version "$2" "$1" >&2
  fi
  flock -u 8
}

installed_version() { sed -n "s/^\"$1 \([0-9.]*\) .*/\1/p" "$TOOLS/.crates.toml" 2>/dev/null; }
