# shellcheck shell=bash
# A run of tests on services of its own. Sourced after common.sh, never run.

# begin_test_run NAME : starts a PostgreSQL and a Redis and says in the environment where they are. Whatever was started
# is ended and removed when the script ends.
begin_test_run() {
  local services
  work=$(mktemp -d "${TMPDIR:-/tmp}/relaypost-$1.XXXXXX")
  trap end_test_run EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  scripts/services start "$work/services" >/dev/null
  # Many connections at once; a low limit is the usual default.
  ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)" || true
  services=$(scripts/services env "$work/services")
  eval "$services"
  export TEST_DATABASE_URL=$DATABASE_URL TEST_REDIS_URL=$REDIS_URL
  # For the tests that crash the database: scripts/services restart-postgres "$TEST_SERVICES_DIR" immediate
  export TEST_SERVICES_DIR=$work/services
  # The product reads these two: a test must say itself what it runs on.
  unset DATABASE_URL REDIS_URL
  export RELAYPOST_TEST_RUN=$work
  # What a crashed test leaves in its temporary folders goes away with ours.
  mkdir "$work/tmp"
  export TMPDIR=$work/tmp
}

end_test_run() {
  local status=$?
  trap - EXIT
  end_left_over_servers
  unmount_left_over_disks
  say_what_was_skipped
  scripts/services stop "$work/services" || status=1
  rm -rf -- "$work"
  exit "$status"
}

# A small disk of a test that was killed. Lazily, because a process may still have files open there.
unmount_left_over_disks() {
  local folder
  while read -r _ folder _; do
    [[ $folder == "$work/tmp/"* ]] && as_root umount --lazy "$folder"
  done </proc/mounts
  return 0
}

# Cargo counts a skipped test among those that passed: see `skip` in testkit/src/report.rs.
say_what_was_skipped() {
  local line
  [[ -s $work/skipped ]] || return 0
  while read -r line; do
    say "skipped: $line"
  done <"$work/skipped"
}

# A server started by a test that then crashed would live on. Such a process is known by a variable that only this run
# sets, or by its working folder: Redis writes its title over its environment (and is redis-check-rdb on Debian).
end_left_over_servers() {
  local process pid program
  for process in /proc/[0-9]*; do
    program=$(readlink "$process/exe" 2>/dev/null) || continue
    [[ ${program##*/} =~ ^(relaypost|redis-|node$|python3) ]] || continue
    grep -zqsFx "RELAYPOST_TEST_RUN=$work" "$process/environ" ||
      [[ $(readlink "$process/cwd") == "$work/tmp/"* ]] || continue
    pid=${process#/proc/}
    say "a test left ${program##*/} (process $pid) behind; ending it"
    kill -KILL "$pid" 2>/dev/null || true
  done
}
