//! Reads settings from the environment and writes down what it was asked for: one description serves the parser, the
//! error messages, `check-config` and `docs/configuration.md`.

use std::{fmt, fmt::Write as _, str::FromStr};

use super::{
    secret::{is_secret, may_be_in_a_file, weakness},
    shown::shown,
    variables::{Source, Variables},
};

/// One setting, as the documentation and `check-config` list it.
#[derive(Clone, Debug)]
pub(super) struct Described {
    /// The variable.
    pub(super) name: &'static str,
    /// Its value when it is not set; empty: none.
    default: String,
    /// What it is for, in one line.
    about: &'static str,
    /// A value as it could be; without one the default is.
    example: Option<&'static str>,
    /// Whether production does not start without it.
    required: bool,
}

/// Settings that are missing or wrong, each with its variable, what was expected and an example.
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
    variables: Variables,
    production: bool,
    described: Vec<Described>,
    problems: Vec<(&'static str, String)>,
    /// What is wrong with the files that settings come from, with the setting.
    of_files: Vec<(&'static str, String)>,
    advice: Vec<String>,
}

impl Reader {
    pub(super) fn new(variables: Variables) -> Self {
        Self {
            variables,
            production: false,
            described: Vec::new(),
            problems: Vec::new(),
            of_files: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// From here on secrets have to be strong, and what production requires has to be there.
    pub(super) fn in_production(&mut self, production: bool) {
        self.production = production;
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
        self.describe(name, "", about);
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
        self.describe(name, default, about);
        // A default that does not parse would be a mistake in this program; the tests read every default.
        self.parse(name)
            .or_else(|| default.parse().ok())
            .unwrap_or_default()
    }

    /// What a value of a setting that was just read looks like, for those whose default does not show it. Of a secret it is
    /// the command that makes one, so that nobody uses the example itself.
    pub(super) fn example(&mut self, name: &'static str, example: &'static str) {
        if let Some(described) = self.described.iter_mut().find(|one| one.name == name) {
            described.example = Some(example);
        }
    }

    /// Production does not start without this setting, which was just read.
    pub(super) fn required_in_production(&mut self, name: &'static str) {
        if let Some(described) = self.described.iter_mut().find(|one| one.name == name) {
            described.required = true;
        }
        if self.production && !self.is_set(name) {
            self.refuse(name, "missing, and production does not start without it");
        }
    }

    /// Production takes no secret for two purposes: who gets at the one would have the other.
    pub(super) fn distinct(&mut self, names: [&'static str; 5]) {
        let mut seen: Vec<(&'static str, &str)> = Vec::new();
        let mut twice = Vec::new();
        for name in names.into_iter().filter(|_| self.production) {
            let parts = self.variables.get(name).unwrap_or_default().split(',');
            for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
                match seen.iter().find(|(_, known)| *known == part) {
                    Some((first, _)) => twice.push((name, *first)),
                    None => seen.push((name, part)),
                }
            }
        }
        for (name, first) in twice {
            let why = format!("expected a secret of its own: this one stands in {first} already");
            self.refuse(name, &why);
        }
    }

    /// Points out what production goes without when this setting, which was just read, is not set.
    pub(super) fn advised_in_production(&mut self, name: &'static str, without: &str) {
        if !self.is_set(name) {
            self.advise(self.production, name, &format!("not set: {without}"));
        }
    }

    /// Points something out about a setting when it is so.
    pub(super) fn advise(&mut self, is_so: bool, name: &'static str, what: &str) {
        if is_so {
            self.advice.push(format!("{name}: {what}"));
        }
    }

    /// Holds a setting to another that it cannot exceed, and returns what it comes to. A default gives way; a value that
    /// was set is refused.
    pub(super) fn at_most<T: PartialOrd>(
        &mut self,
        (name, value): (&'static str, T),
        (limit_name, limit): (&'static str, T),
    ) -> T {
        if value <= limit {
            return value;
        }
        if self.is_set(name) && !self.is_wrong(limit_name) {
            self.refuse(name, &format!("expected no more than {limit_name} has"));
        }
        limit
    }

    /// Notes a setting that is about to be read. One that holds a secret may come from a file.
    fn describe(&mut self, name: &'static str, default: &str, about: &'static str) {
        if may_be_in_a_file(name)
            && let Err(problem) = self.variables.take_from_file(name)
        {
            self.of_files.push((name, problem));
        }
        self.described.push(Described {
            name,
            default: default.to_owned(),
            about,
            example: None,
            required: false,
        });
    }

    /// Whether somebody gave it a value, even one that is wrong.
    pub(super) fn is_set(&self, name: &str) -> bool {
        let of_file = self.of_files.iter().any(|(wrong, _)| *wrong == name);
        of_file || self.variables.get(name).is_some() || self.variables.is_unreadable(name)
    }

    pub(super) fn is_wrong(&self, name: &str) -> bool {
        let mut wrong = self.problems.iter().chain(&self.of_files);
        wrong.any(|(wrong, _)| *wrong == name)
    }

    fn parse<T: FromStr>(&mut self, name: &'static str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        if self.variables.is_unreadable(name) {
            self.refuse(name, "expected text in UTF-8");
            return None;
        }
        let text = self.variables.get(name)?;
        // The value is not repeated: it may be a secret.
        let problem = match text.parse() {
            Ok(value) => match weakness(text).filter(|_| self.production && is_secret(name)) {
                None => return Some(value),
                Some(why) => format!("expected a secret that nobody can guess, and {why}"),
            },
            Err(why) => expected(&why.to_string()),
        };
        self.refuse(name, &problem);
        None
    }

    /// Notes that a setting is wrong, also for a reason that only shows beside other settings.
    pub(super) fn refuse(&mut self, name: &'static str, why: &str) {
        self.problems.push((name, why.to_owned()));
    }

    /// Everything that is wrong, each with an example.
    pub(super) fn problems(&self) -> Vec<String> {
        let of_settings = self.problems.iter().map(|(name, why)| {
            let described = self.described.iter().find(|one| one.name == *name);
            match described.and_then(Described::example) {
                Some(example) => format!("{name}: {why}; for example {name}={example}"),
                None => format!("{name}: {why}"),
            }
        });
        let of_file = self.variables.problems().iter().cloned();
        let of_files = self.of_files.iter().map(|(_, problem)| problem.clone());
        of_file.chain(of_files).chain(of_settings).collect()
    }

    /// Variables that look like settings and are none, and settings that production should have.
    pub(super) fn warnings(&self) -> Vec<String> {
        let names: Vec<&'static str> = self.described.iter().map(|one| one.name).collect();
        let mut warnings = self.variables.suspicious(&names);
        warnings.extend(self.advice.iter().cloned());
        warnings
    }

    /// Every setting in a line of its own with where it comes from, secrets left out.
    pub(super) fn listing(&self) -> String {
        let mut text = String::new();
        for Described { name, default, .. } in &self.described {
            let _ = match (self.variables.get(name), self.variables.source(name)) {
                (Some(value), source) => {
                    let source = match source {
                        Source::Environment => "set",
                        Source::File => ".env",
                        Source::SecretFile => "from the file in its _FILE",
                    };
                    writeln!(text, "{name}={}  # {source}", shown(name, value))
                }
                (None, _) if default.is_empty() => writeln!(text, "{name}=  # not set"),
                (None, _) => writeln!(text, "{name}={default}  # default"),
            };
        }
        text
    }

    /// The settings as a Markdown table.
    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| variable | default | example | in production | what it is for |\n|---|---|---|---|---|\n",
        );
        for one in &self.described {
            let code = |text: Option<&str>| match text {
                None | Some("") => "–".to_owned(),
                Some(text) => format!("`{text}`"),
            };
            let required = if one.required { "required" } else { "" };
            let file = match may_be_in_a_file(one.name) {
                true => format!(" Or `{}_FILE`.", one.name),
                false => String::new(),
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {required} | {}{file} |",
                one.name,
                code(Some(&one.default)),
                code(one.example),
                one.about
            );
        }
        text
    }

    #[cfg(test)]
    pub(super) fn described(&self) -> &[Described] {
        &self.described
    }
}

/// What a parser of the standard library says, in the words that ours have.
fn expected(why: &str) -> String {
    match why.strip_prefix("provided string was not ") {
        Some(values) => format!("expected {values}"),
        None => why.to_owned(),
    }
}

impl Described {
    /// A value as it could be.
    pub(super) fn example(&self) -> Option<&str> {
        let default = Some(self.default.as_str()).filter(|text| !text.is_empty());
        self.example.or(default)
    }
}
