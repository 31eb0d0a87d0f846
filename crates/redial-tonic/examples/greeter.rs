//! A server that is unavailable twice, and a client that does not mind.
//!
//! `cargo run -p redial-tonic --example greeter` runs both on loopback, prints every attempt, and
//! ends by itself. There is no `.proto` file: the messages are plain text, and the client and the
//! server are what tonic-build would generate.

use std::{
    convert::Infallible,
    error::Error,
    net::Ipv4Addr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use redial::core::{Backoff, Event, Policy, RetryPolicy};
use redial_tonic::{GrpcPolicy, GrpcPolicyCell, ServerDeadlineLayer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
    transport::{Channel, Server},
};
use tower::{Layer, Service, service_fn};

type BoxError = Box<dyn Error + Send + Sync>;

/// Runs the example to its end.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let server = Server::builder()
        .layer(ServerDeadlineLayer)
        .add_service(Greeter::default())
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);

    // At most three retries, 20 ms and up between them, and two seconds for it all.
    let backoff = Backoff::exponential(Duration::from_millis(20), 2.0, Duration::from_secs(1))?;
    let retry = RetryPolicy::default().max_retries(3).backoff(backoff);
    let deadline = Some(Duration::from_secs(2));
    let cell =
        GrpcPolicyCell::new(GrpcPolicy::new(Policy { retry, deadline, ..Policy::default() }));

    // The standard stack, with an observer that prints.
    let printing = cell.retry_layer().observe(|_: &redial::Call<'_>, event: &Event| match event {
        Event::AttemptEnded { attempt, verdict, .. } => {
            println!("client: attempt {attempt}: {}", verdict.name());
        }
        Event::Retrying { after, .. } => println!("client: again in {after:?}"),
        _ => {}
    });
    let channel = Channel::from_shared(format!("http://{address}"))?.connect_lazy();
    let stack = redial_tonic::stack(cell).layers(|layers| layers.retries(printing));
    let mut client = Grpc::new(stack.layer(channel));

    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let hello = PathAndQuery::from_static("/greeter.Greeter/Hello");
    let answer = client.unary(Request::new("world".to_owned()), hello, Text).await?;
    println!("client: {}", answer.get_ref());
    assert_eq!(answer.get_ref(), "hello, world");
    assert_eq!(answer.extensions().get(), Some(&redial::Attempts(3)));
    server.abort();
    Ok(())
}

/// Greets from the third call on.
#[derive(Clone, Default)]
struct Greeter {
    calls: Arc<AtomicU32>,
}

impl Greeter {
    async fn hello(self, request: Request<String>) -> Result<Response<String>, Status> {
        let field = |name| request.metadata().get(name).and_then(|value| value.to_str().ok());
        println!(
            "server: previous attempts: {}, time left: {}",
            field("grpc-previous-rpc-attempts").unwrap_or("none"),
            field("grpc-timeout").unwrap_or("any"),
        );
        if self.calls.fetch_add(1, Ordering::Relaxed) < 2 {
            return Err(Status::unavailable("still starting"));
        }
        Ok(Response::new(format!("hello, {}", request.get_ref())))
    }
}

impl NamedService for Greeter {
    const NAME: &'static str = "greeter.Greeter";
}

impl Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let greeter = self.clone();
        let hello = service_fn(move |request| greeter.clone().hello(request));
        Box::pin(async { Ok(tonic::server::Grpc::new(Text).unary(hello, request).await) })
    }
}

/// Messages that are nothing but text, where tonic-build would put protobuf.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let text = String::from_utf8(bytes.to_vec());
        text.map(Some).map_err(|_| Status::internal("the message is no text"))
    }
}
