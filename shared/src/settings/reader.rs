//! Reads settings from the environment and writes down what it was asked for: one description serves the parser, the
//! error messages and `docs/configuration.md`.

use std::{collections::HashMap, fmt, fmt::Write as _, str::FromStr};

/// One setting, as the documentation lists it.
#[derive(Clone, Debug)]
pub(super) struct Described {
    /// The variable.
    pub(super) name: &'static str,
    /// Its value when it is not set; empty: none.
    pub(super) default: String,
    /// What it is for, in one line.
    pub(super) about: &'static str,
}

/// Settings that are missing or wrong, each with its variable, what is wrong and what was expected.
#[derive(Debug, thiserror::Error)]
pub struct Invalid(pub Vec<String>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wrong or missing:", count(self.0.len()))?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

fn count(problems: usize) -> String {
    let plural = if problems == 1 { "" } else { "s" };
    format!("{problems} setting{plural}")
}

/// Where settings come from while they are being read.
#[derive(Debug)]
pub(super) struct Reader {
    env: HashMap<String, String>,
    described: Vec<Described>,
    problems: Vec<String>,
}

impl Reader {
    pub(super) fn new(env: HashMap<String, String>) -> Self {
        Self {
            env,
            described: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// A setting that may be absent. An empty value counts as absent, as in a `.env` file with nothing after the `=`.
    pub(super) fn optional<T: FromStr>(
        &mut self,
        name: &'static str,
        about: &'static str,
    ) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        self.described.push(Described {
            name,
            default: String::new(),
            about,
        });
        self.parse(name)
    }

    /// A setting with a default.
    pub(super) fn or<T: FromStr + Default>(
        &mut self,
        name: &'static str,
        default: &str,
        about: &'static str,
    ) -> T
    where
        T::Err: fmt::Display,
    {
        self.described.push(Described {
            name,
            default: default.to_owned(),
            about,
        });
        // A default that does not parse would be a mistake in this program; the tests read every default.
        self.parse(name)
            .or_else(|| default.parse().ok())
            .unwrap_or_default()
    }

    fn parse<T: FromStr>(&mut self, name: &'static str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let text = self
            .env
            .get(name)
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(why) => {
                // The value is not repeated: it may be a secret.
                self.problems.push(format!("{name}: {why}"));
                None
            }
        }
    }

    /// Notes that a setting is wrong for a reason that only shows beside other settings.
    pub(super) fn refuse(&mut self, name: &'static str, why: &str) {
        self.problems.push(format!("{name}: {why}"));
    }

    /// Notes that a setting is missing, unless it is there and was found wrong already.
    pub(super) fn require(&mut self, name: &'static str, why: &str) {
        let said = format!("{name}: ");
        if !self
            .problems
            .iter()
            .any(|problem| problem.starts_with(&said))
        {
            self.refuse(name, why);
        }
    }

    pub(super) fn finish<T>(self, settings: T) -> Result<T, Invalid> {
        if self.problems.is_empty() {
            Ok(settings)
        } else {
            Err(Invalid(self.problems))
        }
    }

    pub(super) fn into_described(self) -> Vec<Described> {
        self.described
    }
}

/// The settings as a Markdown table.
pub(super) fn table(described: &[Described]) -> String {
    let mut text = String::from("| variable | default | what it is for |\n|---|---|---|\n");
    for Described {
        name,
        default,
        about,
    } in described
    {
        let default = if default.is_empty() {
            "–".to_owned()
        } else {
            format!("`{default}`")
        };
        let _ = writeln!(text, "| `{name}` | {default} | {about} |");
    }
    text
}
