//! What the real programs do with their settings before they do anything else.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use relaypost_testkit::{Proc, production};
use tempfile::TempDir;

use crate::{SOON, options};

/// Every program with every command that reads settings.
const COMMANDS: [(&str, &str); 8] = [
    ("relaypost", "serve"),
    ("relaypost", "check-config"),
    ("relaypost-api", "serve"),
    ("relaypost-api", "check-config"),
    ("relaypost-worker", "serve"),
    ("relaypost-worker", "check-config"),
    ("relaypost-migrate", "up"),
    ("relaypost-migrate", "status"),
];
const CHECKS: [&str; 3] = ["relaypost", "relaypost-api", "relaypost-worker"];

fn binary(name: &str) -> PathBuf {
    options().bin_dir.join(name)
}

/// How a program ended, with what it wrote.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
    /// The names of what it left in its folder.
    left: Vec<String>,
}

impl Ended {
    fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a program in a folder of its own until it ends, with a `.env` file if one is given.
async fn run(program: &str, command: &str, file: Option<&str>, env: &[(&str, &str)]) -> Ended {
    let folder = TempDir::new().unwrap();
    if let Some(file) = file {
        std::fs::write(folder.path().join(".env"), file).unwrap();
    }
    let env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let process = Proc::spawn(folder.path(), &binary(program), &[command], &env);
    let code = process.wait_exit(SOON).await;
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    Ended {
        code,
        stdout: process.stdout(),
        stderr: process.stderr(),
        left: names.filter(|name| name != ".env").collect(),
    }
}

#[tokio::test]
async fn everything_that_is_wrong_is_named_at_once_before_anything_starts() {
    let wrong = [
        ("BIND_ADDR", "hunter2"),
        ("WORKER_BIND_ADDR", "127.0.0.1"),
        ("DATABASE_URL", "mysql://me:hunter2@db/name"),
        ("REDIS_URL", "http://:hunter2@cache/"),
        ("ROOT_API_KEY", "hunter2"),
        ("ENCRYPTION_KEYS", "hunter2,hunter2"),
        ("EMAIL_PROVIDERS", "pigeon://hunter2@loft"),
        ("WEBHOOK_CONCURRENCY", "0"),
        ("IDEMPOTENCY_TTL", "soon"),
        ("RETRY_SCHEDULE", "5,hunter2"),
    ];
    for (program, command) in COMMANDS {
        let ended = run(program, command, None, &wrong).await;
        let said = ended.said();
        assert_eq!(ended.code, 2, "{program} {command}: {said}");
        for (name, _) in wrong {
            let problem = ended.stderr.lines().find(|line| {
                line.trim_start().starts_with(&format!("{name}: expected "))
                    && line.contains(&format!("; for example {name}="))
            });
            assert!(problem.is_some(), "{program} {command}: {name}: {said}");
        }
        assert!(!said.contains("hunter2"), "{program} {command}: {said}");
        assert!(!said.contains("listening"), "{program} {command}: {said}");
        assert_eq!(ended.left, [""; 0], "{program} {command}");
    }
}

#[tokio::test]
async fn production_starts_with_nothing_that_is_missing_or_can_be_guessed() {
    let weak = "0123456789abcdef".repeat(4);
    for (program, command) in COMMANDS {
        let missing = run(program, command, None, &[("APP_ENV", "production")]).await;
        assert_eq!(missing.code, 2, "{program} {command}: {}", missing.said());
        for name in ["DATABASE_URL", "ENCRYPTION_KEYS"] {
            let line = format!("{name}: missing");
            assert!(missing.stderr.contains(&line), "{}", missing.said());
        }
        let mut settings = production();
        settings.insert("ENCRYPTION_KEYS".to_owned(), weak.clone());
        settings.insert("ROOT_API_KEY".to_owned(), "changeme".repeat(3));
        settings.insert("REDIS_URL".to_owned(), "redis://cache/".to_owned());
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let guessed = run(program, command, None, &settings).await;
        let said = guessed.said();
        assert_eq!(guessed.code, 2, "{program} {command}: {said}");
        for name in ["ENCRYPTION_KEYS", "ROOT_API_KEY"] {
            assert!(
                said.contains(&format!("{name}: expected a secret")),
                "{said}"
            );
        }
        assert!(
            !said.contains(&weak) && !said.contains("changemechange"),
            "{said}"
        );
        assert_eq!(guessed.left, [""; 0], "{program} {command}");
    }
}

#[tokio::test]
async fn check_config_prints_every_setting_with_its_source_and_no_secret() {
    let file = "REDIS_URL=redis://:hunter2@cache:6380/1\nLOG=warn\n";
    let set = [
        ("LOG", "debug"),
        ("ROOT_API_KEY", "hunter2-hunter2-hunter2-hunter2"),
        ("DATABASE_URL", "postgres://me:hunter2@db/name?x=hunter2"),
        ("WEBHOOK_TIMEOUT_SM", "1"),
    ];
    for program in CHECKS {
        let ended = run(program, "check-config", Some(file), &set).await;
        let said = ended.said();
        assert_eq!(ended.code, 0, "{program}: {said}");
        for line in [
            "LOG=debug  # set",
            "ROOT_API_KEY=[secret]  # set",
            "DATABASE_URL=postgres://db/name  # set",
            "REDIS_URL=redis://cache:6380/1  # .env",
            "BIND_ADDR=127.0.0.1:3000  # default",
        ] {
            assert!(
                ended.stdout.lines().any(|one| one == line),
                "{line}: {said}"
            );
        }
        assert_eq!(
            ended.stderr.trim_end(),
            "warning: WEBHOOK_TIMEOUT_SM is no setting; is it meant to be WEBHOOK_TIMEOUT_MS?"
        );
        assert!(!said.contains("hunter2"), "{said}");
        assert_eq!(ended.left, [""; 0], "{program}");
    }
}

#[tokio::test]
async fn a_secret_is_read_from_the_file_that_its_file_variable_names() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let url = file("url", "postgres://me:hunter2@db/name\n");
    let key = file("key", "hunter2-hunter2-hunter2-hunter2\n");
    // An editor of Windows put a byte order mark in front.
    let redis = file("redis", "\u{feff}redis://:hunter2@cache/\r\n");
    let set = [
        ("DATABASE_URL_FILE", url.as_str()),
        ("HEALTH_KEY_FILE", &key),
        ("REDIS_URL_FILE", &redis),
    ];
    for program in CHECKS {
        let ended = run(program, "check-config", None, &set).await;
        let said = ended.said();
        assert_eq!(ended.code, 0, "{program}: {said}");
        for line in [
            "DATABASE_URL=postgres://db/name  # from the file in its _FILE",
            "HEALTH_KEY=[secret]  # from the file in its _FILE",
            "REDIS_URL=redis://cache/  # from the file in its _FILE",
        ] {
            let mut lines = ended.stdout.lines();
            assert!(lines.any(|one| one == line), "{line}: {said}");
        }
        assert_eq!(ended.stderr, "", "{program}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_by_its_variable_and_nothing_starts() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let large = folder.path().join("large");
    std::fs::write(&large, "x".repeat(65 << 10)).unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let set = [
        ("DATABASE_URL_FILE", "/nowhere/hunter2"),
        ("ROOT_API_KEY", "hunter2-hunter2-hunter2-hunter2"),
        ("ROOT_API_KEY_FILE", empty.to_str().unwrap()),
        ("EMAIL_PROVIDERS_FILE", empty.to_str().unwrap()),
        ("JWT_SECRET_FILE", large.to_str().unwrap()),
        ("HEALTH_KEY_FILE", pipe.to_str().unwrap()),
        ("METRICS_GUARD_SECRET_FILE", "/dev/zero"),
    ];
    for (program, command) in COMMANDS {
        let ended = run(program, command, None, &set).await;
        let said = ended.said();
        assert_eq!(ended.code, 2, "{program} {command}: {said}");
        for line in [
            "DATABASE_URL_FILE: the file cannot be read: No such file",
            "ROOT_API_KEY_FILE: ROOT_API_KEY is set too",
            "EMAIL_PROVIDERS_FILE: the file is empty",
            "JWT_SECRET_FILE: the file is too large",
            "HEALTH_KEY_FILE: expected a regular file",
            "METRICS_GUARD_SECRET_FILE: expected a regular file",
        ] {
            assert!(ended.stderr.contains(line), "{line}: {said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_wrong_line_of_the_env_file_is_named_with_what_else_is_wrong() {
    let file = "LOG=info\n\nROOT_API_KEY=hunter2 and more\nBIND_ADDR=x\n";
    let ended = run("relaypost", "check-config", Some(file), &[]).await;
    let said = ended.said();
    assert_eq!(ended.code, 2, "{said}");
    assert!(said.contains(".env: line 3 "), "{said}");
    assert!(said.contains("BIND_ADDR: "), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_value_that_is_not_utf_8_is_named_and_no_panic() {
    let folder = TempDir::new().unwrap();
    for program in CHECKS {
        let ended = Command::new(binary(program))
            .arg("check-config")
            .current_dir(folder.path())
            .env_clear()
            .env("LOG", OsStr::from_bytes(b"inf\xff"))
            .env(OsStr::from_bytes(b"X\xff"), OsStr::from_bytes(b"\xfe"))
            .env("REDIS_URL", "redis://cache/")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{program}: {said}");
        assert_eq!(
            said,
            "1 setting wrong or missing:\n  LOG: expected text in UTF-8; for example LOG=info\n"
        );
    }
}
