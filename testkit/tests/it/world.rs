use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use relaypost_testkit::{Backend, Proc, TestDatabase, World, WorldOptions, eventually};
use sea_orm::{ConnectionTrait, Database};
use tempfile::TempDir;

/// A folder with stand-ins for the product's binaries; each shows how it was started on stderr.
fn stubs(binaries: &[&str]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for binary in binaries {
        let path = dir.path().join(binary);
        let script = "#!/bin/sh\necho \"args $*\" >&2\nenv >&2\necho the end >&2\n[ \"$1\" = up ] && exit 0\n\
            echo listening on http://127.0.0.1:1\nexec sleep 60\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

fn options(stubs: &TempDir, backend: Backend) -> WorldOptions {
    let options = WorldOptions::new(stubs.path())
        .env("APP_ENV", "other")
        .env("EXTRA", "1");
    WorldOptions { backend, ..options }
}

/// What a stand-in has shown. Standard error is read beside standard output, and may be behind it.
async fn shown(process: &Proc) -> String {
    eventually(Duration::from_secs(20), || async {
        let text = process.stderr();
        if text.contains("the end") {
            Ok(text)
        } else {
            Err(text)
        }
    })
    .await
}

#[tokio::test]
async fn the_embedded_world_is_one_process_with_its_settings() {
    let stubs = stubs(&["relaypost"]);
    let world = World::start(options(&stubs, Backend::Embedded)).await;
    assert_eq!((world.apis.len(), world.workers.len()), (1, 0));
    assert_eq!(world.client.base(), "http://127.0.0.1:1");
    let started = shown(&world.apis[0]).await;
    let smtp = format!("EMAIL_PROVIDERS=smtp://{}?tls=none", world.smtp.addr());
    for line in [
        "args serve",
        "APP_ENV=other",
        "EXTRA=1",
        "BIND_ADDR=127.0.0.1:0",
        "DATABASE_URL=sqlite://",
        &smtp,
    ] {
        assert!(started.contains(line), "{line} in {started}");
    }
    assert!(
        !started.contains("REDIS_URL") && !started.contains("CARGO"),
        "{started}"
    );
    world.assert_all_running();
    world.stop().await;
}

#[tokio::test]
async fn the_stack_world_is_processes_around_postgresql_and_redis() {
    let stubs = stubs(&["relaypost-migrate", "relaypost-api", "relaypost-worker"]);
    let mut world = World::start(options(&stubs, Backend::Stack)).await;
    assert_eq!((world.apis.len(), world.workers.len()), (1, 2));
    world.start_worker().await;
    world.assert_all_running();
    let started = shown(&world.workers[2]).await;
    let redis = format!("REDIS_URL={}", world.redis().url());
    let database = format!("DATABASE_URL={}", world.database.url());
    assert!(
        started.contains(&redis) && started.contains(&database),
        "{started}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_test_database_is_fresh_and_goes_away() {
    let (first, second) = (
        TestDatabase::postgres().await,
        TestDatabase::postgres().await,
    );
    assert_ne!(first.url(), second.url());
    let url = first.url().to_owned();
    let connection = Database::connect(&url).await.unwrap();
    connection
        .execute_unprepared("CREATE TABLE only_here (id int)")
        .await
        .unwrap();
    first.drop_now().await;
    second.drop_now().await;
    assert!(
        Database::connect(&url).await.is_err(),
        "the database is gone"
    );

    let sqlite = TestDatabase::sqlite();
    let connection = Database::connect(sqlite.url()).await.unwrap();
    connection
        .execute_unprepared("CREATE TABLE only_here (id int)")
        .await
        .unwrap();
}
