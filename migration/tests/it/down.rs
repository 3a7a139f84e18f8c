//! `relaypost-migrate down`, as the program that people run.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use relaypost_migration as migration;
use relaypost_shared::db::{Database, Hold};
use relaypost_testkit::{Backend, TestDatabase};
use sea_orm_migration::sea_orm::{ConnectionTrait as _, Statement};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::support::{connect, database, with_a_migration_of_a_newer_version};

const PROGRAM: &str = env!("CARGO_BIN_EXE_relaypost-migrate");

fn command(program: &str, database: &TestDatabase, env: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("DATABASE_URL", database.url())
        .env("APP_ENV", env)
        .env(
            "ENCRYPTION_KEYS",
            "716e89f65988c8dc4769c6424e0ca37af26d64d6acb822bc5fa4750424ecae3a",
        )
        .env("JWT_SECRET", "c2l4dGVlbiBieXRlcyBhcmUgbm90IGVub3VnaCBoZXJl")
        .env("CORS_ORIGINS", "https://app.example.com")
        .kill_on_drop(true);
    command
}

/// Without a terminal.
async fn migrate(database: &TestDatabase, env: &str, arguments: &[&str]) -> Output {
    let mut command = command(PROGRAM, database, env);
    let command = command.args(arguments).stdin(Stdio::null());
    command.output().await.unwrap()
}

/// With a pseudo-terminal, on which a person types `answer`.
async fn answered(database: &TestDatabase, answer: &str) -> Output {
    // script(1) of util-linux makes the terminal and exits with the code of the command.
    let mut command = command("script", database, "development");
    let mut script = command
        .args(["--quiet", "--return", "--command"])
        .args([&format!("{PROGRAM} down"), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = script.stdin.take().unwrap();
    input.write_all(answer.as_bytes()).await.unwrap();
    let output = script.wait_with_output().await.unwrap();
    drop(input);
    output
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

async fn applied(db: &Database) -> usize {
    let status = migration::status(db).await.unwrap();
    status.iter().filter(|(_, applied)| *applied).count()
}

/// A database without a session of ours on it, the number of its migrations, and its name.
async fn unused() -> (TestDatabase, usize, String) {
    let (database, db) = database().await;
    let all = applied(&db).await;
    let name = name_of(&database);
    db.close().await;
    (database, all, name)
}

fn name_of(database: &TestDatabase) -> String {
    let path = database.url().split('?').next().unwrap();
    path.rsplit('/').next().unwrap().to_owned()
}

async fn left(database: &TestDatabase) -> usize {
    let db = connect(database).await;
    let left = applied(&db).await;
    db.close().await;
    left
}

#[tokio::test]
async fn without_a_terminal_down_changes_nothing_unless_it_may_delete_data() {
    let (database, all, _) = unused().await;
    let refused = migrate(&database, "development", &["down"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("--yes-delete-data"),
        "{}",
        said(&refused)
    );
    assert_eq!(left(&database).await, all);

    let done = migrate(&database, "development", &["down", "--yes-delete-data"]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(left(&database).await, all - 1);
    database.drop_now().await;
}

#[tokio::test]
async fn in_production_down_needs_the_flag_and_the_name_of_the_database() {
    let (database, all, name) = unused().await;
    let refused: [&[&str]; 4] = [
        &["down"],
        &["down", "--yes-delete-data"],
        &["down", "--database", &name],
        &["down", "--yes-delete-data", "--database", "another"],
    ];
    for arguments in refused {
        let output = migrate(&database, "production", arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            said(&output).contains("nothing was changed"),
            "{}",
            said(&output)
        );
    }
    assert_eq!(left(&database).await, all);

    let agreed = ["down", "--yes-delete-data", "--database", &name];
    let done = migrate(&database, "production", &agreed).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(left(&database).await, all - 1);
    database.drop_now().await;
}

#[tokio::test]
async fn a_dry_run_names_tables_and_rows_and_changes_nothing() {
    let (database, db) = database().await;
    db.execute_unprepared(
        "INSERT INTO tenants (id, name, created_at) VALUES \
         ('01890000-0000-7000-8000-000000000001', 'one', '2026-01-01 00:00:00+00:00'), \
         ('01890000-0000-7000-8000-000000000002', 'two', '2026-01-01 00:00:00+00:00')",
    )
    .await
    .unwrap();
    let all = applied(&db).await;
    // The third tenant is the platform's, which the migration makes.
    let output = migrate(
        &database,
        "production",
        &["down", "--dry-run", "--steps", &all.to_string()],
    )
    .await;
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("table tenants (3 rows)\n"), "{text}");
    assert!(text.contains("table deliveries (0 rows)\n"), "{text}");
    assert!(text.contains("dry run: nothing was changed"), "{text}");
    assert_eq!(applied(&db).await, all);
    db.close().await;
    database.drop_now().await;
}

#[tokio::test]
async fn at_a_terminal_only_the_name_of_the_database_deletes_data() {
    let (database, all, name) = unused().await;
    let refused = answered(&database, "y\n").await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert_eq!(left(&database).await, all);
    let done = answered(&database, &format!("{name}\n")).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(left(&database).await, all - 1);
    database.drop_now().await;
}

#[tokio::test]
async fn down_refuses_while_another_session_of_relaypost_is_open() {
    if Backend::from_env() == Backend::Embedded {
        // SQLite does not tell who has its file open.
        return;
    }
    let (database, db) = database().await;
    let all = applied(&db).await;
    let arguments = ["down", "--yes-delete-data"];
    let refused = migrate(&database, "development", &arguments).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("relaypost, from"),
        "{}",
        said(&refused)
    );
    assert_eq!(applied(&db).await, all);
    db.close().await;
    database.drop_now().await;
}

#[tokio::test]
async fn down_says_when_nothing_is_applied_or_fewer_migrations_than_steps() {
    let (database, all, _) = unused().await;
    let more = (all + 1).to_string();
    let refused = migrate(&database, "development", &["down", "--steps", &more]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains(&format!("the number of applied migrations is {all};")),
        "{}",
        said(&refused)
    );
    let every = ["down", "--yes-delete-data", "--steps", &all.to_string()];
    let done = migrate(&database, "development", &every).await;
    assert!(done.status.success(), "{}", said(&done));
    let nothing = migrate(&database, "production", &["down"]).await;
    assert!(nothing.status.success(), "{}", said(&nothing));
    assert!(
        said(&nothing).contains("no migration is applied"),
        "{}",
        said(&nothing)
    );
    database.drop_now().await;
}

#[tokio::test]
async fn an_older_program_takes_nothing_back_from_a_newer_schema_and_reports_it() {
    let (database, db) = database().await;
    with_a_migration_of_a_newer_version(&db).await;
    db.close().await;
    for (arguments, code) in [
        (&["up"][..], 0),
        (&["status"], 0),
        (&["down", "--yes-delete-data"], 1),
    ] {
        let output = migrate(&database, "development", arguments).await;
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(
            said(&output).contains("m9999_from_the_future"),
            "{}",
            said(&output)
        );
        assert!(said(&output).contains("newer version"), "{}", said(&output));
    }
    database.drop_now().await;
}

/// A table of 50 million rows must not be read to the end for a question.
#[tokio::test]
async fn rows_of_a_large_table_are_estimated() {
    let (database, db) = database().await;
    let (id, numbers) = match Backend::from_env() {
        Backend::Embedded => (
            "randomblob(16)",
            "(WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100001) \
             SELECT n FROM numbers)",
        ),
        Backend::Stack => ("gen_random_uuid()", "generate_series(1, 100001)"),
    };
    let insert = format!(
        "INSERT INTO tenants (id, name, created_at) SELECT {id}, 'many', '2026-01-01 00:00:00+00:00' FROM {numbers} AS n"
    );
    let statement = Statement::from_string(db.get_database_backend(), insert);
    db.execute_raw(statement).await.unwrap();
    db.execute_unprepared("ANALYZE tenants").await.unwrap();
    db.close().await;
    let all = left(&database).await.to_string();
    let output = migrate(
        &database,
        "development",
        &["down", "--dry-run", "--steps", &all],
    )
    .await;
    let text = said(&output);
    let estimated = match Backend::from_env() {
        Backend::Embedded => "table tenants (more than 100000 rows)",
        Backend::Stack => "table tenants (about 1",
    };
    assert!(text.contains(estimated), "{text}");
    database.drop_now().await;
}

#[tokio::test]
async fn down_leaves_an_sqlite_file_alone_that_a_process_serves_from() {
    let (database, all, _) = unused().await;
    if Backend::from_env() == Backend::Embedded {
        let file = database.url().trim_start_matches("sqlite://");
        let file = Path::new(file.split('?').next().unwrap());
        let served = Hold::take(file).unwrap();
        let refused = migrate(&database, "development", &["down", "--yes-delete-data"]).await;
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            said(&refused).contains("stop it first"),
            "{}",
            said(&refused)
        );
        assert_eq!(left(&database).await, all);
        drop(served);
        let done = migrate(&database, "development", &["down", "--yes-delete-data"]).await;
        assert!(done.status.success(), "{}", said(&done));
    }
    database.drop_now().await;
}
