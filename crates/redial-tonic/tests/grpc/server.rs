//! A tonic server without a line of generated code, which does what its script says.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut};
use redial::InboundLayer;
use redial_tonic::ServerDeadlineLayer;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
};
use tower::{Service, service_fn};

/// What the server does about one call. The last of a script is repeated for ever.
pub(crate) enum Act {
    /// Answers with a text.
    Say(&'static str),
    /// Fails without an answer: a status in the head alone.
    Fail(Status),
    /// Answers with messages and errors, over the headers that a stream begins with.
    Stream(Vec<Result<&'static str, Status>>),
    /// Reads this many messages of a stream, then fails without an answer.
    FailAfter(usize, Status),
    /// Reads a stream to its end, and answers with each of its messages.
    Echo,
    /// Answers each message as it comes, over headers that are sent at once.
    Relay,
    /// Never answers.
    Hang,
    /// Begins to answer, and never goes on.
    HangAfter(&'static str),
    /// Calls somebody else, whose answer it passes on.
    Call(Next),
    /// Answers as HTTP does.
    Http(u16),
}

type Next =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, Status>> + Send>> + Send + Sync>;

/// A call as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) previous_attempts: Option<String>,
    pub(crate) timeout: Option<String>,
    pub(crate) messages: Vec<String>,
    /// Whether the caller said that no more messages would come.
    pub(crate) has_ended: bool,
    pub(crate) at: Instant,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    greeter: Greeter,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Greeter {
    script: Arc<[Act]>,
    seen: watch::Sender<Vec<Seen>>,
    dropped: watch::Sender<usize>,
}

impl Server {
    pub(crate) async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::over(listener, script)
    }

    pub(crate) fn over(listener: TcpListener, script: impl IntoIterator<Item = Act>) -> Self {
        Self::serve(listener, script, |greeter, incoming| {
            let mut server = tonic::transport::Server::builder().layer(ServerDeadlineLayer);
            let server = server.add_service(greeter).serve_with_incoming(incoming);
            tokio::spawn(async { server.await.unwrap() })
        })
    }

    /// A server under the layer that is not gRPC's alone.
    pub(crate) async fn start_inbound(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::serve(listener, script, |greeter, incoming| {
            let mut server = tonic::transport::Server::builder().layer(InboundLayer::new());
            let server = server.add_service(greeter).serve_with_incoming(incoming);
            tokio::spawn(async { server.await.unwrap() })
        })
    }

    fn serve(
        listener: TcpListener,
        script: impl IntoIterator<Item = Act>,
        spawn: impl FnOnce(Greeter, TcpListenerStream) -> JoinHandle<()>,
    ) -> Self {
        let greeter = Greeter {
            script: script.into_iter().collect(),
            seen: watch::Sender::default(),
            dropped: watch::Sender::new(0),
        };
        let address = listener.local_addr().unwrap();
        let task = spawn(greeter.clone(), TcpListenerStream::new(listener));
        Self { address, greeter, task }
    }

    /// Returns the calls so far, in order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.greeter.seen.borrow().clone()
    }

    /// Waits until this many calls have arrived.
    pub(crate) async fn until_seen(&self, count: usize) {
        let mut seen = self.greeter.seen.subscribe();
        seen.wait_for(|seen| count <= seen.len()).await.unwrap();
    }

    /// Waits until this many handlers that never end were dropped.
    pub(crate) async fn until_dropped(&self, count: usize) {
        let mut dropped = self.greeter.dropped.subscribe();
        dropped.wait_for(|dropped| *dropped == count).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NamedService for Greeter {
    const NAME: &'static str = "test.Greeter";
}

impl Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let number = self.note(&request);
        let greeter = self.clone();
        Box::pin(async move { Ok(greeter.answer(number, request).await) })
    }
}

impl Greeter {
    fn note(&self, request: &http::Request<Body>) -> usize {
        let field = |name| {
            let value = request.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let seen = Seen {
            previous_attempts: field("grpc-previous-rpc-attempts"),
            timeout: field("grpc-timeout"),
            messages: Vec::new(),
            has_ended: false,
            at: Instant::now(),
        };
        self.seen.send_modify(|all| all.push(seen));
        self.seen.borrow().len() - 1
    }

    async fn answer(self, number: usize, request: http::Request<Body>) -> http::Response<Body> {
        let act = number.min(self.script.len() - 1);
        if let Act::Http(status) = self.script[act] {
            return http::Response::builder().status(status).body(Body::empty()).unwrap();
        }
        let handler = service_fn(move |request: Request<Streaming<String>>| {
            self.clone().act(act, number, request.into_inner())
        });
        tonic::server::Grpc::new(Text).streaming(handler, request).await
    }

    async fn act(
        self,
        act: usize,
        number: usize,
        mut messages: Streaming<String>,
    ) -> Result<Response<Answer>, Status> {
        let most = match &self.script[act] {
            Act::Fail(status) => return Err(status.clone()),
            Act::Relay => return Ok(Response::new(Box::pin(messages))),
            Act::FailAfter(count, _) => *count,
            _ => usize::MAX,
        };
        for _ in 0..most {
            let message = messages.message().await?;
            let has_ended = message.is_none();
            self.seen.send_modify(|seen| {
                seen[number].messages.extend(message);
                seen[number].has_ended = has_ended;
            });
            if has_ended {
                break;
            }
        }
        let answer: Answer = match &self.script[act] {
            Act::Say(text) => Box::pin(tokio_stream::once(Ok((*text).to_owned()))),
            Act::FailAfter(_, status) => return Err(status.clone()),
            Act::Stream(items) => {
                let items = items.clone().into_iter();
                Box::pin(tokio_stream::iter(items.map(|item| item.map(str::to_owned))))
            }
            Act::Echo => {
                let messages = self.seen.borrow()[number].messages.clone();
                Box::pin(tokio_stream::iter(messages).map(Ok))
            }
            Act::HangAfter(text) => {
                let dropped = Dropped(self.dropped.clone());
                let first = tokio_stream::once(Ok((*text).to_owned()));
                let never = tokio_stream::pending().map(move |item| {
                    let _ = &dropped;
                    item
                });
                return Ok(Response::new(Box::pin(first.chain(never))));
            }
            Act::Call(next) => {
                let _dropped = Dropped(self.dropped.clone());
                Box::pin(tokio_stream::once(Ok(next().await?)))
            }
            Act::Hang | Act::Fail(_) | Act::Http(_) | Act::Relay => {
                let _dropped = Dropped(self.dropped.clone());
                std::future::pending().await
            }
        };
        Ok(Response::new(answer))
    }
}

type Answer = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

/// Counts the handlers that are gone.
struct Dropped(watch::Sender<usize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count += 1);
    }
}

/// Messages that are nothing but text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Text;

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
