//! Three services in a row, and a caller who does not wait for ever.
//!
//! `cargo run -p redial-hyper --example deadlines` runs them on loopback, prints what each of them knows of
//! the time left, and ends by itself.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use redial::{
    BoxError, CallContext, InboundLayer, Propagate, PropagateLayer, Trace, core::Deadline,
    current_deadline, current_trace,
};
use redial_hyper::Transport;
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, ServiceExt, service_fn};

/// A client that passes on what its caller brought. Under the standard stack it is
/// `stack.map_attempts(|attempts| (attempts, PropagateLayer::new()))`.
type Client = Propagate<Transport>;

/// A service: the next one that it calls, or none, and then it works by itself.
#[derive(Clone)]
struct Hop {
    name: &'static str,
    next: Option<(Client, String)>,
}

/// Says so when work ends before it is done.
struct Work {
    name: &'static str,
    is_done: bool,
}

/// Runs the example to its end.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let client = PropagateLayer::new().layer(Transport::builder().build()?);
    let leaf = serve(Hop { name: "leaf", next: None }).await?;
    let middle = serve(Hop { name: "middle", next: Some((client.clone(), leaf)) }).await?;
    let edge = serve(Hop { name: "edge", next: Some((client.clone(), middle)) }).await?;

    for wait in [500, 50].map(Duration::from_millis) {
        println!("caller: waits for {wait:?}");
        let deadline = Deadline::after(now(), wait);
        let context = CallContext::default().with_trace(Trace::start()).with_deadline(deadline);
        match context.carry(ask(client.clone(), &edge)).await {
            Ok(answer) => println!("caller: {}, {:?}", answer.status(), answer.headers()),
            Err(error) => println!("caller: {error}"),
        }
    }

    println!("caller: loses patience after 50ms, and goes");
    let call = tokio::time::timeout(Duration::from_millis(50), ask(client, &edge));
    drop(call.await);
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

async fn serve(hop: Hop) -> Result<String, BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, hop.clone()));
        }
    });
    Ok(url)
}

async fn serve_connection(stream: TcpStream, hop: Hop) {
    let handler = service_fn(move |request| handle(hop.clone(), request));
    // Within the handler the time is that of the caller; when it is up, the handler is dropped.
    let service = InboundLayer::new().layer(handler);
    let service = hyper::service::service_fn(move |request| service.clone().oneshot(request));
    let builder = auto::Builder::new(TokioExecutor::new());
    // A caller that goes away ends its connection with an error.
    drop(builder.serve_connection(TokioIo::new(stream), service).await);
}

async fn handle(hop: Hop, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, BoxError> {
    let mut work = Work { name: hop.name, is_done: false };
    let left = current_deadline().map(|deadline| deadline.remaining(now()));
    let trace = current_trace().map(|id| id.to_string()).unwrap_or_default();
    println!("{}: {left:?} left, trace {trace}", hop.name);
    // A body that is not read keeps hyper from seeing that an HTTP/1.1 caller has gone.
    request.into_body().collect().await?;
    let answer = match hop.next {
        Some((client, url)) => ask(client, &url).await?,
        None => {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Response::new(Full::from("done"))
        }
    };
    work.is_done = true;
    Ok(answer)
}

async fn ask(client: Client, url: &str) -> Result<Response<Full<Bytes>>, BoxError> {
    let request = Request::get(url).body(Full::<Bytes>::default())?;
    let (head, body) = client.oneshot(request).await?.into_parts();
    Ok(Response::from_parts(head, Full::from(body.collect().await?.to_bytes())))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.is_done {
            println!("{}: stopped, nobody waits", self.name);
        }
    }
}
