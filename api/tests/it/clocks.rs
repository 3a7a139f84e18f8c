//! The clock of a process is the database's.

use chrono::TimeDelta;
use relaypost_shared::{clock::Clock, db, settings::DatabaseUrl};
use relaypost_testkit::Backend;
use sea_orm::ConnectionTrait as _;

use crate::api;

/// The database's clock is 400 days ahead: so it is seen by a machine whose own clock is late.
#[tokio::test]
async fn a_process_goes_by_the_time_of_the_database_and_not_by_that_of_its_machine() {
    let api = api().await;
    let shifted = match Backend::from_env() {
        Backend::Stack => {
            let ahead = "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS \
                $$ SELECT pg_catalog.clock_timestamp() + interval '400 days' $$";
            api.db.execute_unprepared(ahead).await.unwrap();
            TimeDelta::days(400)
        }
        // The time of an SQLite database is that of its machine.
        Backend::Embedded => TimeDelta::zero(),
    };
    let url = api.settings.database_url.as_str();
    let options = match Backend::from_env() {
        Backend::Stack => "?options=-csearch_path%3Dpublic,pg_catalog",
        Backend::Embedded => "",
    };
    let url: DatabaseUrl = format!("{url}{options}").parse().unwrap();
    let db = db::connect(&url, 1, None).await.unwrap();
    let clock = db::clock(&db).await.unwrap();
    let off = clock.now() - (Clock::system().now() + shifted);
    assert!(off.abs() < TimeDelta::minutes(1), "{off}");
    let of_machine = clock.of_machine().now() - Clock::system().now();
    assert!(of_machine.abs() < TimeDelta::minutes(1), "{of_machine}");
    db.close().await;
    api.stop().await;
}
