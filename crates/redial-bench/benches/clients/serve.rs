//! The server that all contestants call: 1 KiB an answer, kept alive.

use std::{
    convert::Infallible,
    io::{Read, stdin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What was seen so far.
#[derive(Default)]
struct Seen {
    opened: AtomicU64,
    shaky: AtomicU64,
}

/// Answers until standard input ends.
pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    std::thread::spawn(|| {
        // Whoever started this has ended, or wants it to end.
        let _ = stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    runtime.block_on(async {
        let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else { return };
        let Ok(address) = listener.local_addr() else { return };
        println!("{}", address.port());
        let (seen, page) = (Arc::new(Seen::default()), Bytes::from(vec![b'x'; 1024]));
        while let Ok((stream, _)) = listener.accept().await {
            seen.opened.fetch_add(1, Ordering::Relaxed);
            // Answers are small and whole: waiting for more to send would measure Nagle.
            let _ = stream.set_nodelay(true);
            let (seen, page) = (Arc::clone(&seen), page.clone());
            tokio::spawn(async move {
                let answer = service_fn(|request| {
                    let answer = answer(&seen, &page, &request);
                    async { Ok::<_, Infallible>(answer) }
                });
                // A client that goes away is none of its business.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
}

/// `/` is always well; a tenth of the answers of `/shaky` are 503 with `Retry-After: 0`; `/opened` tells how
/// many connections were opened before this one.
fn answer(seen: &Seen, page: &Bytes, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/opened" => {
            let opened = seen.opened.load(Ordering::Relaxed).saturating_sub(1);
            Response::new(Full::from(opened.to_string()))
        }
        "/shaky" if seen.shaky.fetch_add(1, Ordering::Relaxed).is_multiple_of(10) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("0"));
            response
        }
        _ => Response::new(Full::new(page.clone())),
    }
}
