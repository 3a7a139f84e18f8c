//! One statement over many rows.

use std::fmt::Write as _;

use sea_orm::Value;

/// Rows that a statement joins with: a common table expression `given(column, …) AS (VALUES …)` and its parameters.
///
/// This is the one place where a list of rows becomes SQL, so that it can take another form (arrays and `UNNEST` on
/// PostgreSQL) without a change to its users.
#[derive(Debug)]
pub struct Rows {
    columns: &'static str,
    rows: Vec<Vec<Value>>,
}

impl Rows {
    /// Rows of the named columns, which are given as they stand in the SQL: `id, status`.
    pub fn new(columns: &'static str, rows: impl IntoIterator<Item = Vec<Value>>) -> Self {
        Self {
            columns,
            rows: rows.into_iter().collect(),
        }
    }

    /// `WITH given(columns) AS (VALUES ($1, $2), …) rest`, with the parameters in order. Parameters of `rest` itself
    /// go in `first` and are `$1…$n`, so that `rest` can name them without knowing how many rows there are.
    pub fn with(self, first: Vec<Value>, rest: &str) -> (String, Vec<Value>) {
        let mut params = first;
        let mut sql = format!("WITH given({}) AS (VALUES ", self.columns);
        for (index, row) in self.rows.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let _ = write!(
                sql,
                "{separator}({})",
                placeholders(params.len(), row.len())
            );
            params.extend(row);
        }
        let _ = write!(sql, ") {rest}");
        (sql, params)
    }
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

    #[test]
    fn parameters_of_the_statement_come_before_those_of_the_rows() {
        let rows = Rows::new(
            "id, n",
            [vec![1.into(), 2.into()], vec![3.into(), 4.into()]],
        );
        let (sql, params) = rows.with(vec![9.into()], "SELECT $1 FROM given");
        assert_eq!(
            sql,
            "WITH given(id, n) AS (VALUES ($2, $3), ($4, $5)) SELECT $1 FROM given"
        );
        assert_eq!(params.len(), 5);
    }
}
