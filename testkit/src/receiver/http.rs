//! Just enough HTTP/1.1 to read a request exactly as it came and to answer it.

use std::io;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Hit;

/// Status, headers and body of an answer.
pub(super) type Response = (u16, Vec<(String, String)>, Vec<u8>);

/// The next request of a connection, or `None` when the client has closed it.
pub(super) async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Hit>> {
    let head_len = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let mut hit = parse_head(&buffer[..head_len - 4])?;
    let body_len = match hit.header("content-length") {
        Some(length) => length.parse().map_err(io::Error::other)?,
        None if hit.header("transfer-encoding").is_some() => {
            write(stream, (411, Vec::new(), Vec::new())).await?;
            return Err(io::Error::other("the receiver wants a content-length"));
        }
        None => 0usize,
    };
    while buffer.len() < head_len + body_len {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    hit.body = buffer[head_len..head_len + body_len].to_vec();
    buffer.drain(..head_len + body_len);
    Ok(Some(hit))
}

fn parse_head(head: &[u8]) -> io::Result<Hit> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(path)) = (request.next(), request.next()) else {
        return Err(io::Error::other("no request line"));
    };
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Ok(Hit {
        method: method.to_owned(),
        path: path.to_owned(),
        headers,
        body: Vec::new(),
        at: Instant::now(),
    })
}

/// Writes the answer in one go and leaves the connection open.
pub(super) async fn write(stream: &mut TcpStream, response: Response) -> io::Result<()> {
    let (status, headers, body) = response;
    let mut out = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    out.extend_from_slice(&body);
    stream.write_all(&out).await
}

/// Resolves when the client has gone away.
pub(super) async fn gone(stream: &TcpStream) {
    if matches!(stream.peek(&mut [0]).await, Ok(n) if n > 0) {
        std::future::pending::<()>().await;
    }
}
