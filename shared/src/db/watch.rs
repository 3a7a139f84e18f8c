//! One connection that is asked all the time whether it still leads anywhere.
//!
//! A silent connection shows itself only to who uses it, after the whole deadline of a statement. Where a process sends few
//! statements, each batch would meet its silence anew. All connections of a process lead to the same place, so one that is
//! asked every second tells for the others.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sea_orm::sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};

use super::{ACQUIRE_TIMEOUT, sessions::Sessions};

/// How long it rests between two questions.
const REST: Duration = Duration::from_secs(1);
/// How long an answer may take. A server that is only busy answers by then.
const ANSWER: Duration = Duration::from_secs(2);

/// Starts to watch for as long as somebody uses the sessions.
pub(super) fn start(options: PgConnectOptions, sessions: &Arc<Sessions>) {
    let sessions = Arc::downgrade(sessions);
    tokio::spawn(async move {
        while sessions.strong_count() > 0 {
            // A database that takes no connections is found by whoever needs one.
            if let Ok(Ok(connection)) =
                timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&options)).await
            {
                ask(connection, &sessions).await;
            }
            sleep(REST).await;
        }
    });
}

/// Asks until the connection is of no use any more. One that does not answer is left to the system: to say goodbye would
/// be to wait for it.
async fn ask(mut connection: PgConnection, sessions: &Weak<Sessions>) {
    loop {
        let Some(generation) = sessions.upgrade().map(|sessions| sessions.generation()) else {
            let _ = timeout(REST, connection.close()).await;
            return;
        };
        match timeout(ANSWER, connection.ping()).await {
            Ok(Ok(())) => sleep(REST).await,
            Ok(Err(_)) => return,
            Err(_) => {
                if let Some(sessions) = sessions.upgrade() {
                    sessions.renew(generation, "a connection to the database went silent");
                }
                return;
            }
        }
    }
}
