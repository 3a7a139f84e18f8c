# shellcheck shell=bash
# What backup and restore-drill share. Sourced after common.sh, never run.
# shellcheck disable=SC2034 # most of what is set here is used by the scripts that source it

readonly MANIFEST=manifest.json CHECKSUMS=SHA256SUMS
# The name that scripts/backup gives to a backup.
readonly BACKUP_NAME='^relaypost-[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])([0-5][0-9]){2}Z$'
# A server that goes silent is given up after a minute. Everything else of the address is in the environment.
readonly CONNECTION='keepalives_idle=30 keepalives_interval=10 keepalives_count=3 tcp_user_timeout=60000'

# need COMMAND PACKAGE : installs the Debian package when the command is missing.
need() { command -v "$1" >/dev/null || apt_install "$2"; }

now_utc() { date -u +%Y-%m-%dT%H:%M:%SZ; }

# ---- settings ----------------------------------------------------------------------------------

# The largest file of a setting, in bytes. The product has the same limit.
readonly LARGEST_SETTING=65536

# from_file NAME : when NAME_FILE is set, reads NAME from that file, as a secret of a container comes. As in the product, NAME
# must not be set too, blanks and line ends around the value do not count, and an empty file is an error.
from_file() {
  # In this locale a length is one in bytes.
  local LC_ALL=C file=$1_FILE path text
  path=$(trimmed "${!file:-}")
  [[ -n $path ]] || return 0
  [[ -z $(trimmed "${!1:-}") ]] || die "$file: $1 is set too; expected only one of the two"
  text=$(head -c $((LARGEST_SETTING + 1)) -- "$path" 2>/dev/null | tr -d '\0') || die "$file: $path cannot be read"
  ((${#text} <= LARGEST_SETTING)) || die "$file: $path is too large; expected at most $LARGEST_SETTING bytes"
  text=$(trimmed "$text")
  [[ -n $text ]] || die "$file: $path is empty; expected the value"
  printf -v "$1" '%s' "$text"
}

# trimmed TEXT : without the blanks, tabs and line ends (CR, LF) around it.
trimmed() {
  local text=${1#"${1%%[![:space:]]*}"}
  printf '%s' "${text%"${text##*[![:space:]]}"}"
}

# from_development NAME : in development the running instance of `make up` comes first, then .env, which the product reads
# too. A backup must be of the database that is in use.
from_development() {
  local file line
  [[ ${APP_ENV:-development} == development ]] || return 0
  for file in "$ROOT/.relaypost-up/env" .env; do
    [[ -z ${!1:-} && -r $file ]] || continue
    line=$(grep -E "^(export )?$1=" "$file" | tail -n 1) || continue
    line=${line#*=}
    line=${line#[\"\']}
    printf -v "$1" '%s' "${line%[\"\']}"
  done
}

# Reads DATABASE_URL, and takes it out of the environment of every program that is started from here.
read_database_url() {
  from_file DATABASE_URL
  from_development DATABASE_URL
  # A nightly backup must not fall back to a file that nobody uses.
  [[ -n ${DATABASE_URL:-} || ${APP_ENV:-development} != production ]] ||
    die "DATABASE_URL: missing; in production set it, or DATABASE_URL_FILE"
  DATABASE_URL=${DATABASE_URL:-sqlite://data/relaypost.db}
  export -n DATABASE_URL
  case $DATABASE_URL in
    postgres://* | postgresql://*) BACKEND=postgres ;;
    sqlite:*) BACKEND=sqlite ;;
    *) die "DATABASE_URL: expected postgres://… or sqlite://…" ;;
  esac
}

sqlite_path() { # URL
  local path=${1#sqlite:}
  path=${path#//}
  printf '%s' "${path%%\?*}"
}

url_decode() {
  local text=${1//\\/\\\\}
  printf '%b' "${text//%/\\x}"
}

# use_postgres URL : the address as the environment of PostgreSQL's programs, so that nothing of it is on a command line.
use_postgres() {
  local rest=${1#*://} query='' authority user='' password='' host port='' pair value
  # The caller's own client settings must not lead to another server.
  # shellcheck disable=SC2086 # the list of names is meant to be split
  unset ${!PG*}
  [[ $rest == *\?* ]] && query=${rest#*\?} rest=${rest%%\?*}
  authority=${rest%%/*}
  [[ $rest == */* ]] && PGDATABASE=$(url_decode "${rest#*/}")
  if [[ $authority == *@* ]]; then
    user=${authority%@*} authority=${authority##*@}
    [[ $user == *:* ]] && password=${user#*:} user=${user%%:*}
  fi
  host=$authority
  # An IPv6 address is in brackets and has colons itself.
  if [[ $host == \[*\]* ]]; then
    [[ $host == *\]:* ]] && port=${host##*\]:}
    host=${host#\[} host=${host%%\]*}
  elif [[ $host == *:* ]]; then
    port=${host##*:} host=${host%:*}
  fi
  PGHOST=$(url_decode "$host") PGPORT=${port:-5432} PGUSER=$(url_decode "$user") PGPASSWORD=$(url_decode "$password")
  while [[ -n $query ]]; do
    pair=${query%%&*}
    [[ $query == *'&'* ]] && query=${query#*&} || query=''
    value=$(url_decode "${pair#*=}")
    case ${pair%%=*} in
      sslmode | ssl-mode) PGSSLMODE=$value ;;
      sslrootcert | ssl-root-cert | ssl-ca) PGSSLROOTCERT=$value ;;
      sslcert | ssl-cert) PGSSLCERT=$value ;;
      sslkey | ssl-key) PGSSLKEY=$value ;;
      host) PGHOST=$value ;;
      port) PGPORT=$value ;;
      user) PGUSER=$value ;;
      password) PGPASSWORD=$value ;;
      dbname) PGDATABASE=$value ;;
    esac
  done
  PGUSER=${PGUSER:-postgres} PGDATABASE=${PGDATABASE:-$PGUSER} PGHOST=${PGHOST:-127.0.0.1}
  PGAPPNAME=${0##*/} PGCONNECT_TIMEOUT=10
  export PGHOST PGPORT PGUSER PGDATABASE PGAPPNAME PGCONNECT_TIMEOUT
  [[ -z $PGPASSWORD ]] || export PGPASSWORD
  local name
  for name in PGSSLMODE PGSSLROOTCERT PGSSLCERT PGSSLKEY; do
    [[ -z ${!name:-} ]] || export "${name?}"
  done
}

# The newest pg_dump and pg_restore of this machine: they read servers of their own version and of older ones.
find_postgres_clients() {
  local bin
  bin=$(printf '%s\n' /usr/lib/postgresql/*/bin/pg_dump | sort -V | tail -n 1)
  [[ -x $bin ]] && PATH=${bin%/*}:$PATH
  need pg_dump postgresql-client
}

# ---- files -------------------------------------------------------------------------------------

# The folder of all backups. Whatever is written from here on is its owner's alone.
use_backup_dir() {
  umask 077
  BACKUP_DIR=$(realpath -m -- "${BACKUP_DIR:-./backups}")
}

# The folders with the name of a backup, newest first. Their names sort by time. A folder of any other name, such as a copy
# made by hand, belongs to somebody else.
backup_folders() {
  local folder
  for folder in "$BACKUP_DIR"/relaypost-*Z; do
    if [[ -d $folder && ${folder##*/} =~ $BACKUP_NAME ]]; then printf '%s\n' "$folder"; fi
  done | sort -r
}

# Those of them that are whole, newest first. Sorted again, because `sort` writes all lines at once: a reader that takes only
# the first one must not break the pipe.
backups() {
  local folder
  backup_folders | while IFS= read -r folder; do
    if [[ -f $folder/$CHECKSUMS ]]; then printf '%s\n' "$folder"; fi
  done | sort -r
}

# The file of a backup with the database in it.
database_file() { # FOLDER
  local file
  for file in "$1"/database.*; do
    [[ -f $file ]] && printf '%s' "$file" && return
  done
  return 1
}

# plain FILE : its content, decrypted where it is encrypted.
plain() {
  if [[ $1 == *.age ]]; then
    [[ -n ${BACKUP_ENCRYPTION_KEY_FILE:-} ]] || die "BACKUP_ENCRYPTION_KEY_FILE is needed to open $1"
    need age age
    age --decrypt --identity "$BACKUP_ENCRYPTION_KEY_FILE" "$1"
  else
    cat -- "$1"
  fi
}

# check_decryption FILE : ends with the reason when the encryption key is missing or does not open the file. It says nothing of
# the content.
check_decryption() {
  [[ $1 == *.age ]] || return 0
  [[ -n ${BACKUP_ENCRYPTION_KEY_FILE:-} ]] ||
    die "BACKUP_ENCRYPTION_KEY_FILE is needed to open ${1##*/}: the file of the age identity that it was encrypted for"
  [[ -r $BACKUP_ENCRYPTION_KEY_FILE ]] || die "BACKUP_ENCRYPTION_KEY_FILE: $BACKUP_ENCRYPTION_KEY_FILE cannot be read"
  can_decrypt ||
    die "BACKUP_ENCRYPTION_KEY_FILE: $BACKUP_ENCRYPTION_KEY_FILE can only encrypt; expected an identity (AGE-SECRET-KEY-…)"
  need age age
  ! is_for_another_key "$1" ||
    die "BACKUP_ENCRYPTION_KEY_FILE: $BACKUP_ENCRYPTION_KEY_FILE is not an identity that ${1##*/} was encrypted for"
}

# is_for_another_key FILE : whether the file is encrypted, and for other identities than ours. We have one.
is_for_another_key() {
  local output
  [[ $1 == *.age ]] || return 1
  # One byte is enough; then age ends with a broken pipe.
  output=$(set +o pipefail; { plain "$1" 2>&3 | head -c 1 >/dev/null; } 3>&1)
  [[ $output == *"no identity matched"* ]]
}

# Whether the encryption key can decrypt; a file of recipients (age1…) can only encrypt.
can_decrypt() { grep -qs '^AGE-SECRET-KEY-' "${BACKUP_ENCRYPTION_KEY_FILE:-/dev/null}"; }

# checksums_fit FOLDER : whether each file of the backup is there and as it was written. The list must name all of them.
checksums_fit() {
  local database
  database=$(database_file "$1") || return 1
  grep -qs " ${database##*/}\$" "$1/$CHECKSUMS" && grep -qs " $MANIFEST\$" "$1/$CHECKSUMS" &&
    (cd -- "$1" && sha256sum --check --strict --status "$CHECKSUMS" 2>/dev/null)
}

# is_readable FOLDER : whether the program that restores it can list what it holds.
is_readable() {
  local file
  file=$(database_file "$1") || return 1
  if [[ $file == *.age ]] && ! can_decrypt; then
    # Its checksum is all that can be looked at here.
    return 0
  fi
  case $file in
    *.dump) pg_restore --list "$file" >/dev/null 2>&1 ;;
    # pg_restore stops reading after the list, which ends age with a broken pipe.
    *.dump.age) (set +o pipefail; plain "$file" 2>/dev/null | pg_restore --list >/dev/null 2>&1) ;;
    *) [[ $(set +o pipefail; plain "$file" 2>/dev/null | head -c 15 | tr -d '\0') == 'SQLite format 3' ]] ;;
  esac
}

is_good() { checksums_fit "$1" && is_readable "$1"; }

# ---- relaypost-migrate -------------------------------------------------------------------------

# On PATH as in the image; in a checkout the one that was built last.
find_migrate() {
  local folder=${CARGO_TARGET_DIR:-$ROOT/target}
  MIGRATE=$(command -v relaypost-migrate) && return
  # shellcheck disable=SC2012 # the names are our own
  MIGRATE=$(ls -t -- "$folder"/{release,debug}/relaypost-migrate 2>/dev/null | head -n 1) || true
  [[ -z $MIGRATE ]] || return 0
  command -v cargo >/dev/null || die "relaypost-migrate is not on PATH and not in $folder; build it first (cargo build -p relaypost-migration)"
  say "building relaypost-migrate; a first build takes some minutes"
  (cd -- "$ROOT" && cargo build --quiet -p relaypost-migration) >&2
  MIGRATE=$folder/debug/relaypost-migrate
}

# migrate URL COMMAND : on a scratch database. Only this program gets the keys, and it needs none of the production
# settings of a server. Everything is exported instead of given to env(1), whose arguments other users can read.
migrate() {
  (
    cd / || exit
    # shellcheck disable=SC2046 # the lists of names are meant to be split
    export -n $(compgen -e) && export -nf $(compgen -A function)
    export PATH LOG=error APP_ENV=development PUBLIC_URL=http://localhost "DATABASE_URL=$1"
    [[ -z ${ENCRYPTION_KEYS:-} ]] || export ENCRYPTION_KEYS
    exec "$MIGRATE" "$2"
  )
}
