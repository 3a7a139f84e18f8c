//! Databases for the tests.

use relaypost_migration as migration;
use relaypost_shared::{
    db::{self, Database},
    settings::Settings,
};
use relaypost_testkit::{Backend, TestDatabase};
use sea_orm_migration::sea_orm::ConnectionTrait as _;

pub(crate) async fn empty() -> TestDatabase {
    match Backend::from_env() {
        Backend::Embedded => TestDatabase::sqlite(),
        Backend::Stack => TestDatabase::postgres().await,
    }
}

pub(crate) async fn connect(database: &TestDatabase) -> Database {
    let url = ("DATABASE_URL".to_owned(), database.url().to_owned());
    let settings = Settings::from_map([url].into()).unwrap();
    db::connect(&settings.database_url, 1, None).await.unwrap()
}

pub(crate) async fn database() -> (TestDatabase, Database) {
    let database = empty().await;
    let db = connect(&database).await;
    migration::up(&db).await.unwrap();
    (database, db)
}

/// The schema of a database that is rolled back to an older version of Relaypost.
pub(crate) async fn with_a_migration_of_a_newer_version(db: &Database) {
    db.execute_unprepared(
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_from_the_future', 0)",
    )
    .await
    .unwrap();
}
