//! The settings as a whole.

use proptest::prelude::*;

use super::*;

fn checked(pairs: &[(&str, &str)], program: Program) -> Checked {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Checked::from_map(owned.collect(), program)
}

fn read(pairs: &[(&str, &str)]) -> Result<Settings, Invalid> {
    checked(pairs, Program::Standalone).settings
}

/// Valid settings of production with some that are different.
fn production(pairs: &[(&str, &str)]) -> Result<Settings, Invalid> {
    let mut all = relaypost_testkit::production();
    for (name, value) in pairs {
        all.insert((*name).to_owned(), (*value).to_owned());
    }
    Settings::from_map(all)
}

fn problems(settings: Result<Settings, Invalid>) -> String {
    settings.unwrap_err().0.join("\n")
}

#[test]
fn nothing_needs_to_be_set() {
    let settings = read(&[]).unwrap();
    assert_eq!(settings.bind_addr.port(), 3000);
    assert_eq!(settings.webhooks.retry_schedule.0.len(), 8);
    assert_eq!(settings.webhooks.timeout, Duration::from_secs(15));
    assert!(settings.database_url.is_sqlite());
    assert!(matches!(
        settings.emails.providers[..],
        [MailProvider::Folder(_)]
    ));
}

#[test]
fn every_wrong_setting_is_named_at_once_and_no_value_is_repeated() {
    let Invalid(problems) = read(&[
        ("BIND_ADDR", "everywhere"),
        ("DATABASE_URL", "mysql://secret@host/db"),
        ("WEBHOOK_CONCURRENCY", "0"),
        ("ROOT_API_KEY", "short"),
        ("EMAIL_PROVIDERS", "pigeon://secret"),
    ])
    .unwrap_err();
    let text = problems.join("\n");
    for name in [
        "BIND_ADDR",
        "DATABASE_URL",
        "WEBHOOK_CONCURRENCY",
        "ROOT_API_KEY",
        "EMAIL_PROVIDERS",
    ] {
        assert!(text.contains(name), "{name} is not named in:\n{text}");
    }
    assert_eq!(problems.len(), 5);
    assert!(!text.contains("secret") && !text.contains("short"));
}

#[test]
fn what_could_not_be_used_is_refused_at_the_start() {
    for (name, value) in [
        ("EMAIL_DEFAULT_FROM", "nobody at example"),
        ("EMAIL_DEFAULT_FROM", "a@example.com\r\nBcc: b@example.com"),
        ("LOG", "info,relaypost_worker=loud"),
        ("LOG", "https://logs.example.com"),
        ("LOG", "inof"),
        ("LOG", "warn,relaypost_worker"),
        ("DATABASE_URL", "postgres://me:pass/word@db/name"),
        ("REDIS_URL", "redis://:pass#word@cache/"),
    ] {
        let text = problems(read(&[(name, value)]));
        assert!(text.starts_with(&format!("{name}: expected ")), "{text}");
    }
    assert!(read(&[("LOG", "info,[request{path}]=debug")]).is_ok());
    let good = [
        ("EMAIL_DEFAULT_FROM", "Zoë <zoe@example.com>"),
        ("LOG", "warn,relaypost_worker=debug,access=off"),
    ];
    assert!(read(&good).is_ok());
}

#[test]
fn webhooks_to_this_machine_are_for_development() {
    assert!(read(&[]).unwrap().webhooks.allow_http);
    let production = production(&[]).unwrap();
    assert!(!production.webhooks.allow_http);
    assert!(production.webhooks.allow_cidrs.0.is_empty());
}
#[test]
fn every_setting_has_an_example_that_is_named_with_what_is_wrong() {
    let mut reader = Reader::new(Variables::default());
    Settings::read(&mut reader, Program::Standalone);
    for one in reader.described() {
        assert!(one.example().is_some(), "{} has no example", one.name);
    }
    let text = problems(read(&[
        ("BIND_ADDR", "everywhere"),
        ("ENCRYPTION_KEYS", "0f"),
    ]));
    assert!(
        text.contains("; for example BIND_ADDR=127.0.0.1:3000"),
        "{text}"
    );
    assert!(
        text.contains("; for example ENCRYPTION_KEYS=$(openssl rand -hex 32)"),
        "{text}"
    );
}

#[test]
fn production_does_not_start_without_what_it_requires() {
    assert!(production(&[]).is_ok());
    let text = problems(read(&[("APP_ENV", "production")]));
    for name in ["DATABASE_URL", "ENCRYPTION_KEYS"] {
        assert!(text.contains(&format!("{name}: missing")), "{text}");
    }
    let text = problems(production(&[
        ("DATABASE_URL", " "),
        ("ENCRYPTION_KEYS", ""),
    ]));
    assert_eq!(text.matches("missing").count(), 2, "{text}");
    let beside = [
        ("DATABASE_URL", "sqlite://x.db"),
        ("REDIS_URL", "redis://x/"),
    ];
    assert!(problems(production(&beside)).contains("DATABASE_URL: "));
}

#[test]
fn production_does_not_start_with_a_secret_that_can_be_guessed() {
    for (name, value) in [
        ("ROOT_API_KEY", "changeme-changeme-changeme"),
        ("ROOT_API_KEY", "rp_root_test_key_0123456789abcdef"),
        ("ENCRYPTION_KEYS", &"0f".repeat(32)),
    ] {
        assert!(read(&[(name, value)]).is_ok(), "development takes {name}");
        let text = problems(production(&[(name, value)]));
        assert!(text.starts_with(&format!("{name}: ")), "{text}");
        assert!(!text.contains(value), "{text}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_with_both_names_and_a_default_gives_way() {
    for (name, value, limit_name, limit) in [
        (
            "CIRCUIT_OPEN_SECONDS",
            "60",
            "CIRCUIT_OPEN_MAX_SECONDS",
            "59",
        ),
        (
            "CIRCUIT_OPEN_SECONDS",
            "901",
            "CIRCUIT_OPEN_MAX_SECONDS",
            "",
        ),
        (
            "WEBHOOK_CONNECT_TIMEOUT_MS",
            "2000",
            "WEBHOOK_TIMEOUT_MS",
            "1999",
        ),
    ] {
        let Invalid(problems) = read(&[(name, value), (limit_name, limit)]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(name) && problems[0].contains(limit_name));
    }
    let short = read(&[
        ("WEBHOOK_TIMEOUT_MS", "100"),
        ("CIRCUIT_OPEN_MAX_SECONDS", "4"),
    ]);
    let Settings {
        webhooks, circuit, ..
    } = short.unwrap();
    assert_eq!(webhooks.connect_timeout, Duration::from_millis(100));
    assert_eq!(circuit.open, Duration::from_secs(4));
}

#[test]
fn a_program_that_needs_redis_says_so_with_everything_else() {
    for program in [Program::Api, Program::Worker] {
        let text = problems(checked(&[("BIND_ADDR", "x")], program).settings);
        assert!(
            text.contains("REDIS_URL: missing") && text.contains("BIND_ADDR: "),
            "{text}"
        );
    }
    for program in [Program::Standalone, Program::Migrate] {
        assert!(checked(&[], program).settings.is_ok());
    }
}

#[test]
fn every_setting_is_listed_with_its_source_and_without_its_secrets() {
    let Checked { listing, .. } = checked(
        &[
            ("ROOT_API_KEY", "hunter2-hunter2-hunter2-hunter2"),
            ("DATABASE_URL", "postgres://me:hunter2@db/name"),
            ("LOG", "debug"),
        ],
        Program::Standalone,
    );
    for line in [
        "ROOT_API_KEY=[secret]  # set",
        "DATABASE_URL=postgres://db/name  # set",
        "LOG=debug  # set",
        "BIND_ADDR=127.0.0.1:3000  # default",
        "REDIS_URL=  # not set",
    ] {
        assert!(listing.lines().any(|one| one == line), "{line}:\n{listing}");
    }
    assert!(!listing.contains("hunter2"), "{listing}");
}

const MARK: &str = "hunter2zebra";

fn names() -> Vec<&'static str> {
    let mut reader = Reader::new(Variables::default());
    Settings::read(&mut reader, Program::Standalone);
    reader.described().iter().map(|one| one.name).collect()
}

fn programs() -> impl Strategy<Value = Program> {
    prop_oneof![
        Just(Program::Standalone),
        Just(Program::Api),
        Just(Program::Worker),
        Just(Program::Migrate),
    ]
}

/// Text that somebody may have put behind a `=`, with something in it that may be a secret.
fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9]{0,12}",
        "(production|development|true|false|)",
        "(postgres|redis|smtp|sqlite|file|resend|unix)(://|:)[a-z0-9@:/?#,.%=-]{0,24}",
        "[a-z0-9:/@,.-]{0,12}".prop_map(|text| format!("smtp://me:{MARK}{text}")),
        "[ -~]{0,12}".prop_map(|text| format!("{MARK}{text}")),
        "[ -~]{0,12}".prop_map(|text| format!("{text}{MARK},{text}")),
    ]
}

fn maps() -> impl Strategy<Value = HashMap<String, String>> {
    let names = proptest::sample::select(names()).prop_map(str::to_owned);
    let names = prop_oneof![8 => names, 1 => "[A-Z_]{0,20}"];
    proptest::collection::hash_map(names, values(), 0..20)
}

/// Settings that are all right, with secrets that all have the mark.
fn valid() -> impl Strategy<Value = HashMap<String, String>> {
    let secret = || {
        any::<[u8; 24]>().prop_map(|bytes| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{MARK}{hex}")
        })
    };
    let numbers = (1..500_u32, 100..60_000_u32, 1..900_u32);
    let key = any::<[u8; 32]>();
    (secret(), secret(), key, numbers).prop_map(|(root, password, key, (few, timeout, open))| {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let settings = [
            ("ROOT_API_KEY", root),
            ("ENCRYPTION_KEYS", key),
            (
                "DATABASE_URL",
                format!("postgres://me:{password}@db:5433/name?x={password}"),
            ),
            ("REDIS_URL", format!("redis://:{password}@cache/1")),
            (
                "EMAIL_PROVIDERS",
                format!(
                    "smtp://me:{password}@one:587?tls=required, smtp://{password}:{password}@two"
                ),
            ),
            ("DATABASE_CONNECTIONS", few.to_string()),
            ("WEBHOOK_TIMEOUT_MS", timeout.to_string()),
            ("CIRCUIT_OPEN_SECONDS", open.to_string()),
            ("RETRY_SCHEDULE", format!("{few}, {open}")),
        ];
        let owned = settings.map(|(name, value)| (name.to_owned(), value));
        owned.into()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_set_every_problem_names_its_variable_and_repeats_no_value(
        map in maps(),
        program in programs(),
    ) {
        let names = names();
        let Checked { settings, warnings, listing } = Checked::from_map(map.clone(), program);
        match settings {
            Ok(settings) => {
                let shown = format!("{settings:?}");
                prop_assert!(!shown.contains(&format!("me:{MARK}")), "{}", shown);
            }
            Err(invalid) => {
                let text = invalid.to_string();
                prop_assert!(!text.contains(MARK), "{}", text);
                for problem in &invalid.0 {
                    let named = problem.split(": ").next().unwrap_or_default();
                    prop_assert!(names.contains(&named), "{}", problem);
                    prop_assert!(problem.contains("expected") || problem.contains("missing"), "{}", problem);
                    prop_assert!(problem.contains(&format!("; for example {named}=")), "{}", problem);
                }
            }
        }
        for warning in warnings {
            let of_what_is_set = map.keys().any(|name| warning.starts_with(name.as_str()));
            let of_what_is_missing = warning.contains(": not set: ") || warning.starts_with("APP_ENV: ");
            prop_assert!(of_what_is_set || of_what_is_missing, "{}", warning);
        }
        prop_assert_eq!(listing.lines().count(), names.len());
        for line in listing.lines().filter(|line| line.contains(MARK)) {
            let name = line.split('=').next().unwrap_or_default();
            let secret = secret::is_secret(name) || map[name].contains("://");
            prop_assert!(!secret, "{}", line);
        }
    }

    #[test]
    fn valid_settings_are_listed_as_they_are_without_a_secret(
        map in valid(),
        program in programs(),
    ) {
        let Checked { settings, listing, .. } = Checked::from_map(map.clone(), program);
        let settings = settings.map_err(|invalid| TestCaseError::fail(invalid.to_string()))?;
        for text in [listing.clone(), format!("{settings:?}"), format!("{settings:#?}")] {
            prop_assert!(!text.contains(MARK), "{}", text);
            prop_assert!(!text.contains(&map["ENCRYPTION_KEYS"]), "{}", text);
        }
        for (name, value) in &map {
            let shown = match name.as_str() {
                "ROOT_API_KEY" | "ENCRYPTION_KEYS" => "[secret]",
                "DATABASE_URL" => "postgres://db:5433/name",
                "REDIS_URL" => "redis://cache/1",
                "EMAIL_PROVIDERS" => "smtp://one:587,smtp://two",
                _ => value,
            };
            let line = format!("{name}={shown}  # set");
            prop_assert!(listing.lines().any(|one| one == line), "{}: {}", line, listing);
        }
    }
}

#[test]
fn production_is_told_what_it_goes_without() {
    let mut env = relaypost_testkit::production();
    assert!(
        Checked::from_map(env.clone(), Program::Standalone)
            .warnings
            .is_empty()
    );
    env.remove("PUBLIC_URL");
    let checked = Checked::from_map(env, Program::Standalone);
    assert!(checked.settings.is_ok());
    assert!(
        checked.warnings[0].starts_with("PUBLIC_URL: "),
        "{:?}",
        checked.warnings
    );
}

#[test]
fn production_takes_no_secret_for_two_purposes() {
    let good = relaypost_testkit::production();
    for (name, other) in [
        ("ROOT_API_KEY", "JWT_SECRET"),
        ("JWT_SECRET", "ENCRYPTION_KEYS"),
    ] {
        let text = problems(production(&[(name, &good[other])]));
        assert!(text.contains("a secret of its own"), "{name}: {text}");
    }
    let key = &good["ENCRYPTION_KEYS"];
    let twice = format!("{key},{key}");
    let text = problems(production(&[("ENCRYPTION_KEYS", &twice)]));
    assert!(text.starts_with("ENCRYPTION_KEYS: "), "{text}");
}

#[test]
fn what_is_open_is_pointed_out() {
    let warnings = |pairs: &[(&str, &str)]| checked(pairs, Program::Standalone).warnings.join("\n");
    assert_eq!(warnings(&[]), "");
    let open = warnings(&[("BIND_ADDR", "0.0.0.0:3000")]);
    assert!(open.starts_with("APP_ENV: development"), "{open}");
    let mut env = relaypost_testkit::production();
    env.insert("WEBHOOK_ALLOW_CIDRS".to_owned(), "0.0.0.0/0".to_owned());
    env.insert("PUBLIC_URL".to_owned(), "http://a.example".to_owned());
    let warnings = Checked::from_map(env, Program::Standalone).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}
