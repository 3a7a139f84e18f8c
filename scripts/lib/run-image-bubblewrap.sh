# shellcheck shell=bash
# Runs images that buildah has made, without an engine: bubblewrap over the mounted image. Sourced by scripts/smoke-images,
# which sets `work` and SETTINGS; scripts/lib/run-image-engine.sh does the same with docker and podman.
# shellcheck disable=SC2154,SC2034 # variables that the other side sets, or reads

containers=() # of buildah; they hold the mounts
processes=()

prepare_runner() {
  ((EUID == 0)) || die "needs root, for bubblewrap over a mounted image"
  command -v bwrap >/dev/null || apt_install bubblewrap
}

end_all() {
  local one
  # What runs inside goes with bubblewrap (--die-with-parent). The wait keeps bash from reporting it.
  for one in "${processes[@]}"; do { kill -KILL "$one" && wait "$one"; } 2>/dev/null || true; done
  for one in "${containers[@]}"; do buildah rm "$one" >/dev/null || true; done
}

# open_image TARGET : mounts the image at $work/TARGET.root and reads from its configuration user, entrypoint, command,
# health and environment. Its volume, if it has one, becomes the folder $work/TARGET.data.
open_image() {
  local name container config
  name=localhost/$(image_name "$1")
  container=$(buildah from --pull-never "$name")
  containers+=("$container")
  ln -sfn "$(buildah mount "$container")" "$work/$1.root"
  user='' entrypoint=() command=() health=() environment=() volumes=()
  config=$(buildah inspect --type image "$name" | python3 scripts/lib/image_config.py)
  eval "$config"
  [[ $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || die "$1: its user is '$user', expected numbers that are not root's"
  ((${#volumes[@]} == 0)) || install -d -m 0700 -o "${user%:*}" -g "${user#*:}" "$work/$1.data"
}

# sandbox TARGET COMMAND... : runs a command in the open image: only /tmp and its volume can be written, no capability is left,
# and the network is the machine's. Replaces the (sub)shell.
sandbox() {
  local target=$1 one arguments=()
  shift
  for one in "${environment[@]}" "${SETTINGS[@]}"; do arguments+=(--setenv "${one%%=*}" "${one#*=}"); done
  ((${#volumes[@]} == 0)) || arguments+=(--bind "$work/$target.data" "${volumes[0]}")
  # setpriv is the image's own; the three capabilities are what it needs to become the image's user, and end with that.
  exec bwrap --ro-bind "$work/$target.root/" / --proc /proc --dev /dev --perms 1777 --tmpfs /tmp \
    --ro-bind /etc/resolv.conf /etc/resolv.conf --die-with-parent --unshare-pid --unshare-ipc --unshare-uts --new-session \
    --clearenv "${arguments[@]}" --cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_SETPCAP \
    -- setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --bounding-set=-all --inh-caps=-all \
    --no-new-privs "$@"
}

# run_once TARGET : runs the image to its end.
run_once() {
  open_image "$1"
  (sandbox "$1" "${entrypoint[@]}" "${command[@]}")
}

# run_shell TARGET TEXT : runs a line of shell in the image.
run_shell() {
  open_image "$1"
  (sandbox "$1" sh -c "$2")
}

start_image() {
  open_image "$1"
  (sandbox "$1" "${entrypoint[@]}" "${command[@]}") >"$work/$1.log" 2>&1 &
  started=$!
  processes+=("$started")
}

show_log() { tail -n 20 "$work/$1.log" >&2; }

# run_health_check TARGET : the one that the image itself names.
run_health_check() {
  ((${#health[@]} > 0)) || die "$1: the image has no health check"
  (sandbox "$1" "${health[@]}")
}

# check_confinement TARGET : the proof that the program runs as this file says.
check_confinement() {
  local pid
  pid=$(program_below "$started" "${entrypoint[0]}")
  [[ $(stat --format %u:%g "/proc/$pid") == "$user" ]] || die "$1 does not run as $user"
  grep -q '^CapEff:[[:space:]]*0*$' "/proc/$pid/status" || die "$1 has capabilities"
  grep -qE '^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ / ro' "/proc/$pid/mountinfo" || die "the root of $1 is not read-only"
}

# stop_image TARGET SECONDS : sends SIGTERM and sets `exit_code`.
stop_image() {
  local end=$((SECONDS + $2))
  # bubblewrap does not pass the signal on, so the program itself gets it.
  kill -TERM "$(program_below "$started" "${entrypoint[0]}")"
  while kill -0 "$started" 2>/dev/null && ((SECONDS < end)); do sleep 0.1; done
  ! kill -0 "$started" 2>/dev/null || die "$1 did not end within $2 s of SIGTERM"
  exit_code=0
  wait "$started" || exit_code=$?
}

# program_below PID NAME : the descendant of PID that runs NAME.
program_below() {
  local child children
  read -ra children < <(cat "/proc/$1/task/"*/children 2>/dev/null | tr '\n' ' ') || true
  for child in "${children[@]}"; do
    if [[ $(readlink "/proc/$child/exe") == */"$2" ]]; then
      printf '%s' "$child"
    else
      program_below "$child" "$2"
    fi
  done
}
