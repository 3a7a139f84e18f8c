//! What Redis tells about itself.

use relaypost_testkit::RedisServer;

/// Commands that a script cannot have called: who counts among them was sent by a client.
const SENT: [&str; 7] = [
    "blpop", "client", "evalsha", "hello", "info", "ping", "script",
];

/// Commands since the server started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Commands {
    /// Those that clients sent: scripts, blocking reads, and what goes with connections.
    pub(crate) sent: f64,
    /// Those and the ones that scripts call.
    pub(crate) all: f64,
}

impl Commands {
    pub(crate) async fn of(redis: &RedisServer) -> Self {
        let mut commands = Self::default();
        for line in redis.command(&["INFO", "commandstats"]).await.lines() {
            let Some((name, figures)) = line
                .strip_prefix("cmdstat_")
                .and_then(|line| line.split_once(":calls="))
            else {
                continue;
            };
            let calls = figures
                .split(',')
                .next()
                .and_then(|calls| calls.parse().ok());
            let calls: f64 = calls.unwrap_or(0.0);
            commands.all += calls;
            let name = name.split('|').next().unwrap_or(name);
            if SENT.contains(&name) {
                commands.sent += calls;
            }
        }
        commands
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            all: self.all - before.all,
        }
    }
}

/// One field of `INFO`, as a number.
pub(crate) async fn info(redis: &RedisServer, field: &str) -> Option<f64> {
    let text = redis.command(&["INFO"]).await;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value?.trim().parse().ok()
}
