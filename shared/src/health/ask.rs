//! Asks a process of this machine for its health, for containers that have no program to do so.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long it may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// More of an answer is not read, in bytes.
const MOST: u64 = 64 << 10;

/// Asks the process that listens on `address`, prints one line, and says whether the answer was 200. `live` asks whether its
/// loops turn, otherwise it is asked whether it is ready.
pub async fn ask(address: SocketAddr, live: bool) -> bool {
    let path = if live {
        "/health/live"
    } else {
        "/health/ready"
    };
    let address = reachable(address);
    let (word, well) = match timeout(LIMIT, get(address, path)).await {
        Ok(Ok((200, body))) => (format!("200 {body}"), true),
        Ok(Ok((status, body))) => (format!("{status} {body}"), false),
        Ok(Err(error)) => (error.to_string(), false),
        Err(_) => (format!("no answer in {} s", LIMIT.as_secs()), false),
    };
    println!("http://{address}{path}: {word}");
    well
}

/// Where a process that listens everywhere can be asked on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The status and the body of an answer. As HTTP/1.0, the answer ends with the connection and has no chunks.
async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5));
    let status = status.and_then(|status| status.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    // One line stays one line.
    let body: String = body.chars().filter(|one| !one.is_control()).collect();
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
    status.map(|status| (status, body)).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_over_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
