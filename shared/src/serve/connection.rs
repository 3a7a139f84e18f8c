//! One connection: HTTP/1.1 by hyper, with an end to every wait for the client.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use poem::{
    Addr, Endpoint, Request, Response,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use super::{seat::Seat, socket::Socket};

/// The largest head of a request that is read. Beyond it hyper answers 431 itself, without a body. It also bounds the
/// trailers of a chunked body.
const MAX_HEAD: usize = 64 << 10;

/// Serves the requests of one connection until either side closes it, the client lets it wait for too long, or somebody
/// else gets its seat. When `stopping` becomes true, the request at hand is the last.
pub(super) async fn serve<E>(
    stream: TcpStream,
    client: SocketAddr,
    seat: Arc<Seat>,
    endpoint: Arc<E>,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()>
where
    E: Endpoint<Output = Response> + 'static,
{
    let local = LocalAddr(Addr::SocketAddr(stream.local_addr()?));
    let remote = RemoteAddr(Addr::SocketAddr(client));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        seat.requested();
        let (local, remote) = (local.clone(), remote.clone());
        let (seat, endpoint) = (seat.clone(), endpoint.clone());
        async move {
            let mut request = Request::from((request, local, remote, Scheme::HTTP));
            request.set_data(seat.clone());
            let response = endpoint.get_response(request).await;
            let response: hyper::Response<_> = response.into();
            Ok::<_, Infallible>(response.map(|body| Answer { body, seat }))
        }
    });
    let socket = Socket {
        stream,
        seat: seat.clone(),
    };
    let mut http = http1::Builder::new();
    http.max_header_size(MAX_HEAD);
    let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service));
    let mut timer = pin!(sleep_until(Instant::now()));
    let mut stops = false;
    loop {
        let ended = poll_fn(|cx| {
            // An error of a connection is its client's: there is nobody left to tell.
            let closed = connection.as_mut().poll(cx).map(|_| ());
            if closed.is_ready() {
                return closed;
            }
            waited_too_long(&seat, timer.as_mut(), cx)
        });
        tokio::select! {
            () = ended => return Ok(()),
            () = seat.left() => return Ok(()),
            // An error means that the server is gone, which is as good as being told to stop.
            _ = stopping.wait_for(|stopping| *stopping), if !stops => {
                stops = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The timer is set only when it would come too late: a busy connection never touches it.
fn waited_too_long(seat: &Seat, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(deadline) = seat.deadline() else {
        return Poll::Pending;
    };
    if deadline < timer.deadline() {
        timer.as_mut().reset(deadline);
    }
    while timer.as_mut().poll(cx).is_ready() {
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        timer.as_mut().reset(deadline);
    }
    Poll::Pending
}

/// An answer's body, whose end is told to the seat.
struct Answer<B> {
    body: B,
    seat: Arc<Seat>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.seat.answered();
    }
}
