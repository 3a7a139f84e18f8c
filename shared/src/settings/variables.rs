//! The variables that settings are read from: those of the process, and in development those of a `.env` file.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, HashSet},
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use super::secret::may_be_in_a_file;

/// A variable that begins like these and is no setting is most likely one that is misspelt.
const PREFIXES: [&str; 7] = [
    "WEBHOOK_",
    "RATE_LIMIT_",
    "AUTH_",
    "OAUTH_",
    "CIRCUIT_",
    "IDEMPOTENCY_",
    "METRICS_GUARD",
];
/// In names shorter than this every other word is one letter away.
const SHORT: usize = 6;
/// Names of this length may differ in two letters.
const LONG: usize = 10;
/// No setting has a name as long as this.
const TOO_LONG: usize = 64;
/// The largest file that a value is read from, in bytes.
const LARGEST_FILE: u64 = 64 << 10;

/// Where a variable comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The environment of the process.
    Environment,
    /// The `.env` file.
    File,
    /// The file that `NAME_FILE` names.
    SecretFile,
}

/// Names with their values.
#[derive(Debug, Default)]
pub(super) struct Variables {
    texts: BTreeMap<String, (String, Source)>,
    /// Those whose value is not UTF-8.
    unreadable: HashSet<String>,
    /// What is wrong with the file.
    problems: Vec<String>,
}

impl Variables {
    /// Takes the environment, and in development what `file` adds to it.
    pub(super) fn of_process(
        environment: impl Iterator<Item = (OsString, OsString)>,
        file: &Path,
    ) -> Self {
        let mut variables = Self::default();
        for (name, value) in environment {
            // No setting has a name that is not UTF-8.
            let Ok(name) = name.into_string() else {
                continue;
            };
            match value.into_string() {
                Ok(value) => {
                    let text = (value, Source::Environment);
                    variables.texts.insert(name, text);
                }
                Err(_) => {
                    variables.unreadable.insert(name);
                }
            }
        }
        if variables.get("APP_ENV") != Some("production") {
            variables.add_file(file);
        }
        variables
    }

    fn add_file(&mut self, file: &Path) {
        let Ok(bytes) = std::fs::read(file) else {
            // Most often there is none, and nobody has to have one.
            return;
        };
        let read = Cell::new(0);
        let lines = Lines {
            rest: &bytes,
            read: &read,
        };
        for line in dotenvy::from_read_iter(lines) {
            match line {
                Ok((name, value)) => {
                    if !self.unreadable.contains(&name) {
                        let value = (value, Source::File);
                        self.texts.entry(name).or_insert(value);
                    }
                }
                // The content is not repeated: it may be a secret.
                Err(dotenvy::Error::LineParse(content, _)) => {
                    // A quote that is not closed takes in what follows.
                    let begun = read.get() + 1 - content.lines().count().max(1);
                    let problem = format!(
                        ".env: line {begun} is not of the form NAME=value; a value with spaces needs quotes"
                    );
                    self.problems.push(problem);
                }
                Err(_) => {
                    self.problems.push(".env: it is not UTF-8".to_owned());
                    break;
                }
            }
        }
    }

    /// A value that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (text, _) = self.texts.get(name)?;
        Some(text.trim()).filter(|text| !text.is_empty())
    }

    /// Takes the value of `name` from the file that `NAME_FILE` names, if that is set. Container engines and Kubernetes hand
    /// secrets to a process in this way.
    ///
    /// # Errors
    /// When both are set, or the file cannot be read or is empty. The text names no value.
    pub(super) fn take_from_file(&mut self, name: &str) -> Result<(), String> {
        let file = format!("{name}_FILE");
        if self.is_unreadable(&file) {
            return Err(format!("{file}: expected text in UTF-8"));
        }
        let Some(path) = self.get(&file) else {
            return Ok(());
        };
        if self.get(name).is_some() || self.is_unreadable(name) {
            return Err(format!(
                "{file}: {name} is set too; expected only one of the two"
            ));
        }
        let text = read_text(Path::new(path)).map_err(|why| format!("{file}: {why}"))?;
        self.texts
            .insert(name.to_owned(), (text, Source::SecretFile));
        Ok(())
    }

    /// Where a variable comes from.
    pub(super) fn source(&self, name: &str) -> Source {
        self.texts
            .get(name)
            .map_or(Source::Environment, |(_, source)| *source)
    }

    /// Whether its value is not UTF-8.
    pub(super) fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable.contains(name)
    }

    /// What is wrong with the file.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// A word about each variable that looks like one of `settings` and is none.
    pub(super) fn suspicious(&self, settings: &[&str]) -> Vec<String> {
        let in_files = settings.iter().filter(|name| may_be_in_a_file(name));
        let in_files = in_files.map(|name| format!("{name}_FILE"));
        let expected: Vec<String> = settings
            .iter()
            .map(|name| (*name).to_owned())
            .chain(in_files)
            .collect();
        let names = self.texts.keys().filter(|name| name.len() < TOO_LONG);
        let unknown = names.filter(|name| !expected.contains(name));
        let warnings = unknown.filter_map(|name| {
            let setting = name.strip_suffix("_FILE");
            if let Some(setting) = setting.filter(|name| settings.contains(name)) {
                return Some(format!(
                    "{name} is ignored: {setting} takes no file; set {setting} itself"
                ));
            }
            let near = expected
                .iter()
                .map(|setting| (strsim::levenshtein(name, setting), setting))
                .min()
                .filter(|(distance, setting)| *distance <= tolerated(setting.len()));
            let begins_like_one = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            match near {
                Some((_, setting)) => Some(format!(
                    "{name} is no setting; is it meant to be {setting}?"
                )),
                None if begins_like_one => Some(format!("{name} is no setting")),
                None => None,
            }
        });
        warnings.collect()
    }
}

impl From<HashMap<String, String>> for Variables {
    fn from(texts: HashMap<String, String>) -> Self {
        let texts = texts
            .into_iter()
            .map(|(name, value)| (name, (value, Source::Environment)));
        Self {
            texts: texts.collect(),
            ..Self::default()
        }
    }
}

/// What a file holds, without the newline at its end.
fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("the file cannot be read: {error}");
    // A pipe may never open, and a device has no end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("expected a regular file, not a folder, a pipe or a device".to_owned());
    }
    let mut file = File::open(path).map_err(unreadable)?.take(LARGEST_FILE + 1);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!(
            "the file is too large; expected at most {LARGEST_FILE} bytes"
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not text in UTF-8".to_owned())?;
    // Editors of Windows begin a text with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim();
    if text.is_empty() {
        return Err("the file is empty; expected the value".to_owned());
    }
    Ok(text.to_owned())
}

/// Gives one line at a time, so that one can tell how many were read when something is wrong.
struct Lines<'a> {
    rest: &'a [u8],
    read: &'a Cell<usize>,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let line = end.map_or(self.rest.len(), |end| end + 1);
        let length = line.min(buffer.len());
        let (now, later) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.rest = later;
        if length > 0 && length == line {
            self.read.set(self.read.get() + 1);
        }
        Ok(length)
    }
}

/// How many letters may be wrong.
const fn tolerated(length: usize) -> usize {
    match length {
        ..SHORT => 0,
        SHORT..LONG => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn of_file(content: &[u8]) -> Variables {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".env");
        std::fs::write(&file, content).unwrap();
        let set = [("LOG", "debug"), ("EMPTY", " ")];
        let set = set.map(|(name, value)| (name.into(), value.into()));
        Variables::of_process(set.into_iter(), &file)
    }

    #[test]
    fn the_file_fills_what_is_not_set() {
        let read = of_file(b"# a comment\nLOG=info\nexport REDIS_URL='redis://x/'\n");
        assert_eq!(
            (read.get("LOG"), read.source("LOG")),
            (Some("debug"), Source::Environment)
        );
        assert_eq!(
            (read.get("REDIS_URL"), read.source("REDIS_URL")),
            (Some("redis://x/"), Source::File)
        );
        assert_eq!(read.get("EMPTY"), None);
        assert_eq!(read.problems(), [""; 0]);
    }

    #[test]
    fn a_wrong_line_of_the_file_is_named_by_its_number_and_not_repeated() {
        let read = of_file(b"A=1\n\nB=two words of hunter2\nC=3\nD='hunter2 open\n");
        assert_eq!(read.get("A"), Some("1"));
        assert_eq!(read.get("C"), Some("3"));
        let problems = read.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("line 3"), "{problems:?}");
        assert!(problems[1].contains("line 5"), "{problems:?}");
        assert!(!problems.concat().contains("hunter2"), "{problems:?}");
        let read = of_file(b"A=1\nB=\xff\xfe\n");
        assert_eq!(read.problems(), [".env: it is not UTF-8"]);
    }

    #[test]
    fn production_reads_no_file() {
        let set = [("APP_ENV".into(), "production".into())];
        let read = Variables::of_process(set.into_iter(), Path::new("/dev/null/none"));
        assert_eq!(read.problems(), [""; 0]);
        assert_eq!(read.get("APP_ENV"), Some("production"));
    }

    #[test]
    fn a_value_that_is_not_utf_8_is_known_by_its_name() {
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let set = [
            (bytes(b"LOG"), bytes(b"\xff")),
            (bytes(b"\xfe"), bytes(b"x")),
        ];
        let read = Variables::of_process(set.into_iter(), Path::new("/dev/null/none"));
        assert!(read.is_unreadable("LOG"));
        assert_eq!(read.get("LOG"), None);
    }

    #[test]
    fn a_misspelt_setting_is_pointed_out_and_a_stranger_is_not() {
        let settings = ["LOG", "DATABASE_URL", "BIND_ADDR", "WEBHOOK_TIMEOUT_MS"];
        let set = [
            "LANG",
            "LOG",
            "PATH",
            "DATABASE_ULR",
            "BIND_ADR",
            "WEBHOOK_TIMEOUT",
            "HOME",
            "DATABASE_URL_FILE",
            "DATABASE_URL_FIEL",
            "BIND_ADDR_FILE",
        ];
        let set: HashMap<_, _> = set
            .map(|name| (name.to_owned(), "x".to_owned()))
            .into_iter()
            .collect();
        let warnings = Variables::from(set).suspicious(&settings);
        assert_eq!(
            warnings,
            [
                "BIND_ADDR_FILE is ignored: BIND_ADDR takes no file; set BIND_ADDR itself",
                "BIND_ADR is no setting; is it meant to be BIND_ADDR?",
                "DATABASE_ULR is no setting; is it meant to be DATABASE_URL?",
                "DATABASE_URL_FIEL is no setting; is it meant to be DATABASE_URL_FILE?",
                "WEBHOOK_TIMEOUT is no setting",
            ]
        );
    }
}
