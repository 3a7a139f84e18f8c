# shellcheck shell=bash
# The instance that `make up` starts: its folder, its processes, its settings. Sourced after common.sh, never run.
#
# UP_DIR (default: .relaypost-up) holds
#   env               settings and addresses as shell exports, with secrets: mode 600
#   mode              processes or containers
#   logs/             one log for each process
#   services/         PostgreSQL and Redis (scripts/services)
#   api/ worker-1/ worker-2/ mail/    the working folders of the processes

DIR=$(realpath -m -- "${UP_DIR:-.relaypost-up}")
readonly DIR
# Written first, so that `down` never removes a folder that is not ours.
readonly MARKER=.relaypost-instance

# write_env DATABASE_URL REDIS_URL : DIR/env, with the ports of scripts/up. The secrets of a folder that KEEP=1 kept stay,
# because what is sealed in its database needs them.
write_env() {
  local root keys jwt health
  if [[ -f $DIR/secrets ]]; then
    read -r root keys jwt health <"$DIR/secrets"
  else
    root=rp_$(random_hex 24) keys=$(random_hex 32) jwt=$(random_hex 48) health=$(random_hex 24)
    printf '%s %s %s %s\n' "$root" "$keys" "$jwt" "$health" >"$DIR/secrets"
  fi
  cat >"$DIR/env" <<-ENV
	# Made by scripts/up: the settings of this instance and where it listens.
	export APP_ENV=development
	export DATABASE_URL=$1
	export REDIS_URL=$2
	export ROOT_API_KEY=$root
	export ENCRYPTION_KEYS=$keys
	export JWT_SECRET=$jwt
	export HEALTH_KEY=$health
	export PUBLIC_URL=http://127.0.0.1:$API_PORT
	export EMAIL_PROVIDERS=smtp://127.0.0.1:$SMTP_PORT?tls=none
	export SHUTDOWN_GRACE_SECONDS=10
	# For preflight and whoever looks on.
	export BASE_URL=http://127.0.0.1:$API_PORT
	export API_KEY=$root
	export WORKER_URLS='http://127.0.0.1:${WORKER_PORTS[0]} http://127.0.0.1:${WORKER_PORTS[1]}'
	export MAIL_URL=http://127.0.0.1:$MAIL_PORT
	ENV
}

# The lines of DIR/env that are settings of the product, then those of UP_SETTINGS, which win.
read_settings() {
  local line extra
  PROCESS_SETTINGS=()
  while read -r line; do
    PROCESS_SETTINGS+=("${line#export }")
  done < <(sed -n '/^# For preflight/q; /^export /p' "$DIR/env")
  read -ra extra <<<"${UP_SETTINGS:-}"
  PROCESS_SETTINGS+=("${extra[@]}")
}

# The processes of the instance carry its folder in their environment. A pid file would lie after a reboot, or be missing
# after a kill in the wrong moment; and nobody else has this variable.
pids_of() { # NAME
  local process
  for process in /proc/[0-9]*; do
    grep -zqsFx "RELAYPOST_INSTANCE=$DIR" "$process/environ" || continue
    grep -zqsFx "RELAYPOST_PROCESS=$1" "$process/environ" && printf '%s\n' "${process#/proc/}"
  done
  return 0
}

# start_process NAME COMMAND... : in a folder of its own, with PROCESS_SETTINGS and nothing else of the caller's
# environment, whose DATABASE_URL may be that of another instance. Its number is then in `started`.
start_process() {
  local name=$1
  shift
  mkdir -p "$DIR/$name" "$DIR/logs"
  (
    cd -- "$DIR/$name" || exit
    # 9 is the lock of `up`. A session of its own, so that Ctrl-C in a terminal does not end it.
    exec 9>&- env -i PATH="$PATH" HOME="${HOME:-/}" RELAYPOST_INSTANCE="$DIR" RELAYPOST_PROCESS="$name" \
      "${PROCESS_SETTINGS[@]}" setsid "$@" </dev/null >>"$DIR/logs/$name.log" 2>&1
  ) &
  # shellcheck disable=SC2034 # for the caller
  started=$!
  disown
}

# stop_processes NAME... : all are told, then each is waited for; one that does not end is killed.
stop_processes() {
  local name pid end pids=()
  for name in "$@"; do
    for pid in $(pids_of "$name"); do
      kill -TERM "$pid" 2>/dev/null || true
      pids+=("$pid")
    done
  done
  end=$((SECONDS + STOP_SECONDS))
  for pid in "${pids[@]}"; do
    while is_alive "$pid"; do
      if ((SECONDS >= end)); then
        say "process $pid did not stop within $STOP_SECONDS s; killing it"
        kill -KILL "$pid" 2>/dev/null || true
        end=$((SECONDS + STOP_SECONDS))
      fi
      sleep 0.05
    done
  done
}

# The settings below give a process 10 s to finish its work.
readonly STOP_SECONDS=15

# A zombie has ended: where nobody collects dead processes (a container without an init) it stays in the list.
is_alive() {
  local status
  status=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null) || return 1
  [[ -n $status && $status != Z* && $status != X* ]]
}

# port_owner PORT : prints who listens on it ("relaypost-api, process 4711"), or fails when nobody does.
port_owner() {
  local inode fd pid program
  inode=$(awk -v port=":$(printf '%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port { print $10; exit }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null) || true
  [[ -n $inode ]] || return 1
  fd=$(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" -print -quit 2>/dev/null) || true
  if [[ $fd =~ ^/proc/([0-9]+)/ ]]; then
    pid=${BASH_REMATCH[1]}
    program=$(readlink "/proc/$pid/exe") || program=unknown
    printf '%s, process %s' "${program##*/}" "$pid"
  else
    printf 'a process of another user or container'
  fi
}

# Prints the compose command of an engine that answers, or fails.
compose_command() {
  if docker compose version >/dev/null 2>&1 && timeout 10 docker info >/dev/null 2>&1; then
    printf 'docker compose'
  elif command -v podman-compose >/dev/null && timeout 10 podman info >/dev/null 2>&1; then
    printf 'podman-compose'
  else
    return 1
  fi
}

compose() {
  local command
  command=$(compose_command) || die "no container engine answers (docker compose, or podman with podman-compose)"
  # shellcheck disable=SC2086 # "docker compose" is two words; 9 is the lock
  $command -f compose.dev.yml "$@" 9>&-
}

need_instance() {
  [[ -f $DIR/$MARKER ]] || die "$DIR was not made by make up"
}
