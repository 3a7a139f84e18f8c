//! A Redis server of one's own, to be flushed, killed and restarted at will.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use crate::process::Proc;
use crate::wait::eventually;

const START_DEADLINE: Duration = Duration::from_secs(10);
const PORTS_TO_TRY: usize = 10;

/// A `redis-server` that keeps nothing on disk. Dropping it kills it.
pub struct RedisServer {
    port: u16,
    process: Proc,
    dir: TempDir,
}

impl RedisServer {
    /// Starts it on a free port.
    pub async fn start() -> RedisServer {
        let dir = TempDir::new().unwrap();
        for _ in 0..PORTS_TO_TRY {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            if let Some(process) = launch(port, dir.path()).await {
                return RedisServer { port, process, dir };
            }
        }
        panic!("no free port for redis-server after {PORTS_TO_TRY} tries");
    }

    /// Its address for `REDIS_URL`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills it at once and waits until it is gone.
    pub async fn kill9(&self) {
        self.process.kill9();
        self.process.wait_exit(START_DEADLINE).await;
    }

    /// Starts it again on the same port, with nothing in it.
    pub async fn restart_empty(&mut self) {
        self.kill9().await;
        let started = launch(self.port, self.dir.path()).await;
        self.process = started.expect("the port is still free");
    }

    /// Runs a command and shows its reply as text: a list one element a line, nothing as an empty text.
    pub async fn command(&self, words: &[&str]) -> String {
        command(self.port, words).await.unwrap()
    }

    /// Every key, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self
            .command(&["KEYS", "*"])
            .await
            .lines()
            .map(str::to_owned)
            .collect();
        keys.sort();
        keys
    }
}

/// `None` when the process ended, which it does when the port is taken.
async fn launch(port: u16, dir: &Path) -> Option<Proc> {
    let port_text = port.to_string();
    let args = [
        "--port",
        &port_text,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let process = Proc::spawn(dir, Path::new("redis-server"), &args, &[]);
    // Only its own process id tells it from another server that took the port meanwhile.
    let own_id = format!("process_id:{}\r", process.pid());
    let started = eventually(START_DEADLINE, || async {
        if !process.is_running() {
            return Ok(false);
        }
        match command(port, &["INFO", "server"]).await {
            Ok(info) if info.contains(&own_id) => Ok(true),
            other => Err(format!("redis-server on port {port}: {other:?}")),
        }
    });
    started.await.then_some(process)
}

async fn command(port: u16, words: &[&str]) -> io::Result<String> {
    let mut stream = BufStream::new(TcpStream::connect(("127.0.0.1", port)).await?);
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    read_reply(&mut stream).await
}

async fn read_reply(stream: &mut BufStream<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let line = line.trim_end();
    let (kind, rest) = line
        .split_at_checked(1)
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "$" => {
            let Ok(length) = rest.parse::<usize>() else {
                return Ok(String::new());
            };
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes).await?;
            bytes.truncate(length);
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        "*" => {
            let mut elements = Vec::new();
            for _ in 0..rest.parse().unwrap_or(0) {
                elements.push(Box::pin(read_reply(stream)).await?);
            }
            Ok(elements.join("\n"))
        }
        _ => Err(io::Error::other(rest.to_owned())),
    }
}
