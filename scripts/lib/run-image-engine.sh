# shellcheck shell=bash
# Runs images with docker or podman. Sourced by scripts/smoke-images, which sets `work`, `engine` and SETTINGS; without an
# engine it takes scripts/lib/run-image-bubblewrap.sh.
# shellcheck disable=SC2154,SC2034 # variables that the other side sets, or reads

containers=()

prepare_runner() { :; }

end_all() {
  local one
  for one in "${containers[@]}"; do "$engine" rm --force "$one" >/dev/null || true; done
}

# run TARGET FLAG... -- [ARGUMENT...] : with the machine's network and nothing to write to but /tmp and its volume.
run() {
  local target=$1 flags=()
  shift
  while [[ $1 != -- ]]; do
    flags+=("$1")
    shift
  done
  shift
  "$engine" run --network host --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
    "${SETTINGS[@]/#/--env=}" "${flags[@]}" "$(image_name "$target")" "$@"
}

run_once() { run "$1" --rm --; }

run_shell() { run "$1" --rm --entrypoint sh -- -c "$2"; }

start_image() {
  user=$("$engine" image inspect --format '{{.Config.User}}' "$(image_name "$1")")
  [[ $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || die "$1: its user is '$user', expected numbers that are not root's"
  started=$(run "$1" --detach --)
  containers+=("$started")
}

show_log() { "$engine" logs --tail 20 "$started" >&2; }

run_health_check() {
  local config
  config=$("$engine" image inspect "$(image_name "$1")" | python3 scripts/lib/image_config.py)
  eval "$config"
  ((${#health[@]} > 0)) || die "$1: the image has no health check"
  "$engine" exec "$started" "${health[@]}"
}

# The engine was told, and is trusted.
check_confinement() { :; }

stop_image() {
  "$engine" stop --time "$2" "$started" >/dev/null
  exit_code=$("$engine" inspect --format '{{.State.ExitCode}}' "$started")
}
