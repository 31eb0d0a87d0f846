//! A tonic client without a line of generated code.

use bytes::Bytes;
use http_body::Body as HttpBody;
use redial::BoxError;
use tokio_stream::Stream;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client::{Grpc, GrpcService},
    transport::Channel,
};
use tower::Layer;

use crate::server::Text;

pub(crate) struct Client<S> {
    grpc: Grpc<S>,
}

/// Returns a channel to `address` that connects when it is first used.
pub(crate) fn channel(address: std::net::SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

impl<S> Client<S>
where
    S: GrpcService<
            Body,
            ResponseBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
        >,
{
    /// Creates a client that calls `address` through `layers`.
    pub(crate) fn new(
        layers: impl Layer<Channel, Service = S>,
        address: std::net::SocketAddr,
    ) -> Self {
        Self { grpc: Grpc::new(layers.layer(channel(address))) }
    }

    pub(crate) async fn hello(
        &mut self,
        request: Request<String>,
    ) -> Result<Response<String>, Status> {
        self.ready().await?;
        let path = http::uri::PathAndQuery::from_static("/test.Greeter/Hello");
        self.grpc.unary(request, path, Text).await
    }

    pub(crate) async fn say(&mut self, text: &str) -> Result<String, Status> {
        self.hello(Request::new(text.to_owned())).await.map(Response::into_inner)
    }

    pub(crate) async fn watch(&mut self) -> Result<Streaming<String>, Status> {
        self.ready().await?;
        let path = http::uri::PathAndQuery::from_static("/test.Greeter/Watch");
        let request = Request::new("all".to_owned());
        self.grpc.server_streaming(request, path, Text).await.map(Response::into_inner)
    }

    pub(crate) async fn talk(
        &mut self,
        messages: impl Stream<Item = String> + Send + 'static,
    ) -> Result<Streaming<String>, Status> {
        self.ready().await?;
        let path = http::uri::PathAndQuery::from_static("/test.Greeter/Talk");
        let request = Request::new(messages);
        self.grpc.streaming(request, path, Text).await.map(Response::into_inner)
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|error| Status::from_error(error.into()))
    }
}
