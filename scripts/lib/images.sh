# shellcheck shell=bash
# Which images there are, how they are called, and which engine builds and runs them. Sourced after common.sh, never run.

# shellcheck disable=SC2034 # for whoever sources this
readonly IMAGE_TARGETS=(api worker migrate embedded backup deploy)
readonly IMAGE_PREFIX=${IMAGE_PREFIX:-relaypost}

# The version of the workspace.
workspace_version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml; }

# image_name TARGET : as compose.prod.yml and k8s/ call it.
image_name() { printf '%s-%s:%s' "$IMAGE_PREFIX" "$1" "${IMAGE_TAG:-$(workspace_version)}"; }

# Sets `engine` to docker or podman when one answers, else to buildah, which needs no engine but root. ENGINE chooses one of
# the three. Installs nothing, and fails when there is none.
choose_engine() {
  engine=${ENGINE:-}
  if [[ -n $engine ]]; then
    [[ $engine =~ ^(docker|podman|buildah)$ ]] || die "ENGINE=$engine: expected docker, podman or buildah"
    command -v "$engine" >/dev/null || die "ENGINE=$engine, and there is no $engine"
  elif timeout 10 docker info >/dev/null 2>&1; then
    engine=docker
  elif timeout 10 podman info >/dev/null 2>&1; then
    engine=podman
  elif ((EUID == 0)) && command -v buildah >/dev/null; then
    engine=buildah
  else
    return 1
  fi
}

# As choose_engine, but installs buildah when there is nothing else.
find_engine() {
  choose_engine && return
  ((EUID == 0)) || die "there is no running docker or podman; without one this needs root, for buildah"
  apt_install buildah
  engine=buildah
}

# image_megabytes NAME : what the image takes unpacked, in whole megabytes.
image_megabytes() {
  local container bytes
  if [[ $engine == buildah ]]; then
    container=$(buildah from --pull-never "localhost/$1")
    bytes=$(du --summarize --bytes "$(buildah mount "$container")" | cut -f 1)
    buildah rm "$container" >/dev/null
  else
    bytes=$("$engine" image inspect --format '{{.Size}}' "$1")
  fi
  printf '%s' "$(((bytes + 999999) / 1000000))"
}
