//! A connection to Redis that is made when it is needed and thrown away when it failed.
//!
//! The client library's own manager keeps a connection on which no answer came in time: it makes a new one only when the
//! system reports an error, and a peer that lost its power reports none.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::sync::Mutex;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// A connection that all its clones share, without waiting for each other's commands.
#[derive(Clone)]
pub(super) struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// How many connections were made or tried.
    tries: u64,
    /// Why the last one could not be made.
    failure: Option<RedisError>,
}

impl Link {
    /// A link whose commands may take `timeout` each. Nothing is connected yet.
    pub(super) fn new(client: &Client, timeout: Duration) -> Self {
        Self {
            client: client.clone(),
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(timeout)),
            state: Arc::default(),
        }
    }

    /// The connection, with its number.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64), RedisError> {
        let seen = {
            let state = self.state.lock().await;
            if let Some(connection) = &state.connection {
                return Ok((connection.clone(), state.tries));
            }
            state.tries
        };
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((connection.clone(), state.tries));
        }
        if state.tries != seen
            && let Some(failure) = &state.failure
        {
            // Somebody else tried while this caller waited: trying one after the other would add up the waits.
            return Err(failure.clone());
        }
        state.tries += 1;
        let config = &self.config;
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(config);
        match made.await {
            Ok(connection) => {
                state.connection = Some(connection.clone());
                state.failure = None;
                Ok((connection, state.tries))
            }
            Err(error) => {
                state.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Throws the connection away after an error that says that it is of no use, unless another has taken its place.
    async fn judge<T>(&self, number: u64, result: Result<T, RedisError>) -> Result<T, RedisError> {
        if result.as_ref().is_err_and(ends_connection) {
            let mut state = self.state.lock().await;
            if state.tries == number {
                state.connection = None;
            }
        }
        result
    }
}

/// Whether a command may succeed on another connection after it failed like this on one.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || matches!(error.kind(), ErrorKind::Parse | ErrorKind::AuthenticationFailed)
        // A server that became a replica, or is not ready: the address may lead to another one by now.
        || matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH"))
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (mut connection, number) = self.connection().await?;
            let answer = connection.req_packed_command(command).await;
            self.judge(number, answer).await
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (mut connection, number) = self.connection().await?;
            let answer = connection
                .req_packed_commands(pipeline, offset, count)
                .await;
            self.judge(number, answer).await
        })
    }

    fn get_db(&self) -> i64 {
        self.client.get_connection_info().redis_settings().db()
    }
}
