//! One statement over many rows.
//!
//! On PostgreSQL the rows come as one array for each column, which `UNNEST` turns back into rows: the text of the statement
//! is the same however many there are, so that it is parsed and planned once for each connection and not for each number
//! of rows. SQLite has no arrays and takes `VALUES`; there a statement costs no round trip.

use std::fmt::Write as _;

use sea_orm::{
    ColumnTrait, ColumnType, DbBackend, DbErr, EntityTrait, Iterable, ModelTrait, Statement, Value,
    sea_query::{ArrayType, StringLen},
};

/// A column of given rows: what it is called in the statement, and its type.
#[derive(Clone, Debug)]
pub struct Column {
    name: &'static str,
    kind: Kind,
    nullable: bool,
}

/// The types that rows can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `uuid`
    Uuid,
    /// `text`
    Text,
    /// `integer`
    Integer,
    /// `bigint`
    BigInteger,
    /// `boolean`
    Boolean,
    /// `timestamptz`
    Time,
    /// `bytea`
    Bytes,
    /// `jsonb`
    Json,
}

impl Column {
    /// A column without nulls.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            nullable: false,
        }
    }

    /// A column that may have nulls.
    pub const fn nullable(name: &'static str, kind: Kind) -> Self {
        Self {
            nullable: true,
            ..Self::new(name, kind)
        }
    }
}

impl Kind {
    const fn postgres(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Integer => "int4",
            Self::BigInteger => "int8",
            Self::Boolean => "bool",
            Self::Time => "timestamptz",
            Self::Bytes => "bytea",
            Self::Json => "jsonb",
        }
    }

    /// How a column without nulls is handed over, where the driver can do it without text.
    const fn array(self) -> Option<ArrayType> {
        match self {
            Self::Uuid => Some(ArrayType::Uuid),
            Self::Text => Some(ArrayType::String),
            Self::Integer => Some(ArrayType::Int),
            Self::BigInteger => Some(ArrayType::BigInt),
            Self::Boolean => Some(ArrayType::Bool),
            Self::Time => Some(ArrayType::ChronoDateTimeUtc),
            Self::Bytes => Some(ArrayType::Bytes),
            Self::Json => None,
        }
    }

    fn of(kind: &ColumnType) -> Option<Self> {
        match kind {
            ColumnType::Uuid => Some(Self::Uuid),
            ColumnType::Text | ColumnType::String(_) | ColumnType::Char(_) => Some(Self::Text),
            ColumnType::Integer => Some(Self::Integer),
            ColumnType::BigInteger => Some(Self::BigInteger),
            ColumnType::Boolean => Some(Self::Boolean),
            ColumnType::TimestampWithTimeZone | ColumnType::Timestamp => Some(Self::Time),
            ColumnType::VarBinary(StringLen::None | StringLen::Max | StringLen::N(_))
            | ColumnType::Binary(_)
            | ColumnType::Blob => Some(Self::Bytes),
            ColumnType::Json | ColumnType::JsonBinary => Some(Self::Json),
            _ => None,
        }
    }
}

/// `WITH given(columns) AS (rows) rest`, with the parameters of `rest` first: they are `$1…$n`, so that `rest` can name
/// them without knowing how many rows there are.
///
/// # Errors
/// When a value has no place in an array, which none of ours is.
pub fn given(
    backend: DbBackend,
    columns: &[Column],
    rows: Vec<Vec<Value>>,
    first: Vec<Value>,
    rest: &str,
) -> Result<Statement, DbErr> {
    let names = names(columns.iter().map(|column| column.name));
    let mut params = first;
    let rows = select(backend, columns, rows, &mut params)?;
    let sql = format!("WITH given({names}) AS ({rows}) {rest}");
    Ok(Statement::from_sql_and_values(backend, sql, params))
}

/// `INSERT INTO … rows rest`, where `rest` is what to do about conflicts; its parameters come first.
///
/// # Errors
/// When the entity has a column of a type that is not known here.
pub fn insert<'a, E: EntityTrait<Model: 'a>>(
    backend: DbBackend,
    models: impl IntoIterator<Item = &'a E::Model>,
    first: Vec<Value>,
    rest: &str,
) -> Result<Statement, DbErr> {
    let columns: Vec<Column> = E::Column::iter().map(column_of).collect::<Result<_, _>>()?;
    let rows = models
        .into_iter()
        .map(|model| E::Column::iter().map(|column| model.get(column)).collect());
    let mut params = first;
    let rows = select(backend, &columns, rows.collect(), &mut params)?;
    let names = names(columns.iter().map(|column| column.name));
    let table = E::default().table_name().to_owned();
    let sql = format!("INSERT INTO {table} ({names}) {rows} {rest}");
    Ok(Statement::from_sql_and_values(backend, sql, params))
}

/// How many rows with this many columns fit into one statement.
pub const fn at_once(columns: usize) -> usize {
    // SQLite takes 32,766 parameters.
    30_000 / columns
}

fn column_of<C: ColumnTrait>(column: C) -> Result<Column, DbErr> {
    let (def, name) = (column.def(), column.as_str());
    let kind = Kind::of(def.get_column_type())
        .ok_or_else(|| DbErr::Custom(format!("no type is known for the column {name}")))?;
    Ok(Column {
        name,
        kind,
        nullable: def.is_null(),
    })
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn select(
    backend: DbBackend,
    columns: &[Column],
    rows: Vec<Vec<Value>>,
    params: &mut Vec<Value>,
) -> Result<String, DbErr> {
    match backend {
        DbBackend::Postgres => unnest(columns, rows, params),
        _ => Ok(values(rows, params)),
    }
}

fn values(rows: Vec<Vec<Value>>, params: &mut Vec<Value>) -> String {
    let mut sql = String::from("VALUES ");
    for (index, row) in rows.into_iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(
            sql,
            "{separator}({})",
            placeholders(params.len(), row.len())
        );
        params.extend(row);
    }
    sql
}

fn unnest(
    columns: &[Column],
    rows: Vec<Vec<Value>>,
    params: &mut Vec<Value>,
) -> Result<String, DbErr> {
    let mut lists: Vec<Vec<Value>> = columns
        .iter()
        .map(|_| Vec::with_capacity(rows.len()))
        .collect();
    for row in rows {
        for (list, value) in lists.iter_mut().zip(row) {
            list.push(value);
        }
    }
    let mut arrays = Vec::with_capacity(columns.len());
    for (column, list) in columns.iter().zip(lists) {
        let (number, kind) = (params.len() + 1, column.kind.postgres());
        match column.kind.array().filter(|_| !column.nullable) {
            Some(array) => {
                params.push(Value::Array(array, Some(Box::new(list))));
                arrays.push(format!("${number}::{kind}[]"));
            }
            // The driver takes no nulls in an array. PostgreSQL reads one from text as well.
            None => {
                params.push(literal(&list)?.into());
                arrays.push(format!("${number}::text::{kind}[]"));
            }
        }
    }
    Ok(format!("SELECT * FROM UNNEST({})", arrays.join(", ")))
}

/// An array as PostgreSQL reads it from text (PostgreSQL manual, section 8.15.6): `{a,"b \"c\"",NULL}`.
fn literal(list: &[Value]) -> Result<String, DbErr> {
    let mut text = String::with_capacity(2 + 8 * list.len());
    text.push('{');
    for (index, value) in list.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        element(&mut text, value)?;
    }
    text.push('}');
    Ok(text)
}

fn element(text: &mut String, value: &Value) -> Result<(), DbErr> {
    // Writing into a string cannot fail.
    let _ = match value {
        Value::Uuid(Some(uuid)) => write!(text, "{}", uuid.simple()),
        Value::Int(Some(number)) => write!(text, "{number}"),
        Value::BigInt(Some(number)) => write!(text, "{number}"),
        Value::Bool(Some(yes)) => write!(text, "{yes}"),
        Value::String(Some(words)) => {
            quoted(text, words);
            Ok(())
        }
        Value::Json(Some(json)) => {
            quoted(text, &json.to_string());
            Ok(())
        }
        Value::ChronoDateTimeUtc(Some(time)) => {
            write!(text, "\"{}\"", time.format("%Y-%m-%d %H:%M:%S%.6f+00"))
        }
        Value::Uuid(None)
        | Value::Int(None)
        | Value::BigInt(None)
        | Value::Bool(None)
        | Value::String(None)
        | Value::Json(None)
        | Value::ChronoDateTimeUtc(None) => write!(text, "NULL"),
        other => {
            return Err(DbErr::Custom(format!(
                "this value has no place in an array: {other:?}"
            )));
        }
    };
    Ok(())
}

fn quoted(text: &mut String, words: &str) {
    text.push('"');
    for letter in words.chars() {
        if letter == '"' || letter == '\\' {
            text.push('\\');
        }
        text.push(letter);
    }
    text.push('"');
}

/// `count` placeholders, the first of them `$(already + 1)`: `$3, $4, $5`.
pub fn placeholders(already: usize, count: usize) -> String {
    (already + 1..=already + count)
        .map(|number| format!("${number}"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [
        Column::new("id", Kind::Integer),
        Column::nullable("words", Kind::Text),
    ];

    fn rows() -> Vec<Vec<Value>> {
        vec![
            vec![1.into(), "a".into()],
            vec![2.into(), Value::String(None)],
            vec![3.into(), "say \"b\\c\", NULL".into()],
        ]
    }

    #[test]
    fn parameters_of_the_statement_come_before_those_of_the_rows() {
        let rest = "SELECT $1 FROM given";
        let of = |backend| given(backend, &COLUMNS, rows(), vec![9.into()], rest).unwrap();
        let sqlite = of(DbBackend::Sqlite);
        assert_eq!(
            sqlite.sql,
            "WITH given(id, words) AS (VALUES ($2, $3), ($4, $5), ($6, $7)) SELECT $1 FROM given"
        );
        assert_eq!(sqlite.values.unwrap().0.len(), 7);
        let postgres = of(DbBackend::Postgres);
        assert_eq!(
            postgres.sql,
            "WITH given(id, words) AS (SELECT * FROM UNNEST($2::int4[], $3::text::text[])) SELECT $1 FROM given"
        );
        assert_eq!(
            postgres.values.unwrap().0[2],
            r#"{"a",NULL,"say \"b\\c\", NULL"}"#.into()
        );
    }
}
