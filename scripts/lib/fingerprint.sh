# shellcheck shell=bash
# Row counts and content checksums of a database, as JSON: the same at the time of a backup and after its restore.
# Sourced after backup.sh, never run.
#
# Every row of every table is counted. The checksum is the sum of a hash of each row, so that it needs no order. On
# PostgreSQL a table that the planner takes for more than BACKUP_CHECKSUM_ROWS rows is sampled: only rows whose hashed primary key
# is divisible by `every` are hashed, with `every` a power of two that leaves at most about BACKUP_CHECKSUM_ROWS. Reading the table
# is then the cost, as it is for the dump.
readonly CHECKSUM_ROWS=${BACKUP_CHECKSUM_ROWS:-1000000}

# Settings that change how a value is written as text.
readonly POSTGRES_TEXT="SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres';
SET bytea_output = 'hex'; SET extra_float_digits = 1; SET search_path = public;"

# A statement for each table: {"table": …, "rows": …, "every": …, "checksum": …}. `every` of a restored table comes from the
# manifest. Partitions are part of their table.
postgres_statements() { # [MANIFEST_TABLES_JSON]
  local recorded=${1:-[]}
  cat <<SQL
WITH recorded AS (
  SELECT t.name, t.every FROM json_to_recordset('${recorded//\'/\'\'}') AS t(name text, every bigint)
), tables AS (
  SELECT c.oid, n.nspname || '.' || c.relname AS name, format('%I.%I', n.nspname, c.relname) AS quoted,
    (SELECT sum(greatest(p.reltuples, 0)) FROM pg_class p WHERE p.relkind = 'r' AND (p.oid = c.oid
      OR p.oid IN (SELECT relid FROM pg_partition_tree(c.oid)))) AS estimate,
    (SELECT string_agg(format('t.%I::text', a.attname), ' || '','' || ' ORDER BY a.attnum)
      FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
      WHERE i.indrelid = c.oid AND i.indisprimary) AS key
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
), sampled AS (
  SELECT name, quoted, coalesce(key, 't::text') AS key,
    coalesce((SELECT every FROM recorded r WHERE r.name = tables.name),
      (2 ^ ceil(log(2, greatest(1, estimate / $CHECKSUM_ROWS)::numeric)))::bigint) AS every
  FROM tables
)
SELECT format(
  'SELECT json_build_object(''name'', %L, ''rows'', count(*), ''every'', %s, ''checksum'', coalesce(sum(%s) %s, 0)::text) FROM %s t',
  name, every, '(''x'' || left(md5(t::text), 15))::bit(60)::bigint',
  CASE WHEN every > 1 THEN format('FILTER (WHERE (''x'' || left(md5(%s), 8))::bit(32)::bigint %% %s = 0)', key, every) ELSE '' END,
  quoted)
FROM sampled ORDER BY name
SQL
}

# For a database whose connection is in the environment.
postgres_fingerprint() { # MANIFEST_TABLES_JSON
  psql -XAtq -v ON_ERROR_STOP=1 -d "$CONNECTION" <<<"$POSTGRES_TEXT
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
$(postgres_statements "$1")
\\gexec" | jq -s -c 'sort_by(.name)'
}

sqlite_query() { # FILE SQL
  sqlite3 -readonly -batch -bail "$1" "$2"
}

# The copy is no larger than what one machine embeds, so every row is hashed.
sqlite_fingerprint() { # FILE
  local table quoted
  {
    while IFS= read -r table; do
      quoted="\"${table//\"/\"\"}\""
      sqlite_query "$1" "SELECT json_object('name', '${table//\'/\'\'}', 'rows', (SELECT count(*) FROM $quoted), 'every', 1,
        'checksum', lower(hex(sha3_query('SELECT * FROM $quoted ORDER BY rowid', 256))))"
    done < <(sqlite_query "$1" "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name")
  } | jq -s -c 'sort_by(.name)'
}

# The names of applied migrations, as a JSON list.
# shellcheck disable=SC2034 # used by the scripts that source this
readonly MIGRATIONS="SELECT version FROM seaql_migrations ORDER BY version"
as_json_list() { jq -R -s -c 'split("\n") | map(select(. != ""))'; }
