//! Whether data may be deleted.

use std::io::{self, BufRead};

use relaypost_shared::settings::AppEnv;

use super::Options;

/// Nobody has agreed to delete the data.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// `--database` is another one.
    #[error("--database is {given}, but this database is {database}; nothing was changed")]
    OtherDatabase {
        /// The database of `DATABASE_URL`.
        database: String,
        /// The one that was given.
        given: String,
    },
    /// Production needs more than an answer.
    #[error(
        "APP_ENV is production: to delete this data, repeat the command with --yes-delete-data --database {0}; nothing \
         was changed"
    )]
    Production(String),
    /// There is nobody to ask.
    #[error(
        "there is no terminal to ask on: to delete this data, repeat the command with --yes-delete-data; nothing was \
         changed"
    )]
    NoTerminal,
    /// The answer was no.
    #[error("the answer was not {0}; nothing was changed")]
    Answer(String),
    /// The terminal failed.
    #[error("the answer cannot be read: {0}; nothing was changed")]
    Terminal(#[from] io::Error),
}

/// Succeeds if the data may be deleted. `terminal` is where a person answers, if there is one.
pub(super) fn ask(
    database: &str,
    env: AppEnv,
    options: &Options,
    terminal: Option<&mut dyn BufRead>,
) -> Result<(), Refused> {
    if let Some(given) = options.database.as_ref().filter(|given| *given != database) {
        return Err(Refused::OtherDatabase {
            database: database.to_owned(),
            given: given.clone(),
        });
    }
    if env == AppEnv::Production {
        let has_both = options.yes_delete_data && options.database.is_some();
        return has_both
            .then_some(())
            .ok_or_else(|| Refused::Production(database.to_owned()));
    }
    if options.yes_delete_data {
        return Ok(());
    }
    let terminal = terminal.ok_or(Refused::NoTerminal)?;
    eprint!("Type the name of the database ({database}) to delete this data: ");
    let mut answer = String::new();
    terminal.read_line(&mut answer)?;
    if answer.trim() == database {
        Ok(())
    } else {
        Err(Refused::Answer(database.to_owned()))
    }
}
