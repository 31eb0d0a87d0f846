//! The body of an answer.
//!
//! Its errors are the transport's own: whoever reads half a body learns that the answer was cut, not
//! that an I/O error occurred. Decoding is done here too, so that both kinds read the same.

use std::{
    convert::Infallible,
    fmt,
    future::{self, Ready},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use redial::{BoxError, chain};
use redial_core::Fault;
use tower_http::decompression::{Decompression, DecompressionBody};
use tower_service::Service;

use crate::{error::Error, lease::Lease, origin::Origin};

/// The body of an answer.
///
/// # Errors
///
/// Reading fails with `ResponseTruncated` if the answer ends too early, whatever the reason, and with
/// `Protocol` if it makes no sense. Either way the proof is `Answered`: the server has acted.
///
/// # Cancellation
///
/// Dropping a body that was not read to its end resets the HTTP/2 stream, or closes the HTTP/1.1
/// connection.
pub struct Body {
    kind: Kind,
}

enum Kind {
    // Boxed, so that an answer is short on its way up through the layers.
    Plain(Box<Plain>),
    Decoded(Pin<Box<DecompressionBody<Plain>>>, Origin),
}

/// The body as it comes over the wire.
pub(crate) struct Plain {
    incoming: Incoming,
    /// Until the end of the body; dropped after it.
    lease: Option<Lease>,
    origin: Origin,
}

/// A service that has its one answer already.
struct Answered(Option<Response<Plain>>);

impl Body {
    /// Returns `answer` with its body as it comes over the wire.
    pub(crate) fn plain(
        answer: Response<Incoming>,
        lease: Lease,
        origin: Origin,
    ) -> Response<Self> {
        answer.map(|incoming| Self {
            kind: Kind::Plain(Box::new(Plain::new(incoming, lease, origin))),
        })
    }

    /// Returns `answer` with its body decoded, and without the fields that tell of the encoding, if
    /// it is one that was asked for.
    pub(crate) async fn decoded(
        answer: Response<Incoming>,
        lease: Lease,
        origin: Origin,
    ) -> Response<Self> {
        let answer = answer.map(|incoming| Plain::new(incoming, lease, origin.clone()));
        let answer = Decompression::new(Answered(Some(answer))).call(Request::new(())).await;
        let Ok(answer) = answer;
        answer.map(|body| Self { kind: Kind::Decoded(Box::pin(body), origin) })
    }
}

impl Plain {
    fn new(incoming: Incoming, lease: Lease, origin: Origin) -> Self {
        let mut plain = Self { incoming, lease: Some(lease), origin };
        if http_body::Body::is_end_stream(&plain) {
            plain.finish();
        }
        plain
    }

    /// Brings the connection back.
    fn finish(&mut self) {
        if let Some(mut lease) = self.lease.take() {
            lease.finish();
        }
    }
}

/// The codings that [`Body::decoded`] understands, in the order of preference.
pub(crate) const ACCEPTED: &str = "gzip, br, zstd";

impl Service<Request<()>> for Answered {
    type Response = Response<Plain>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Plain>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        future::ready(Ok(self.0.take().expect("the service lives for one call")))
    }
}

impl http_body::Body for Plain {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if matches!(frame, Some(Err(_))) {
            if let Some(mut lease) = self.lease.take() {
                lease.poison();
            }
        } else if frame.is_none() || self.incoming.is_end_stream() {
            self.finish();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| Error::reading(&self.origin, error))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.kind {
            Kind::Plain(plain) => Pin::new(plain).poll_frame(cx),
            Kind::Decoded(decoded, origin) => {
                decoded.as_mut().poll_frame(cx).map_err(|error| undecodable(origin, error))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Plain(plain) => plain.is_end_stream(),
            Kind::Decoded(decoded, _) => decoded.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Plain(plain) => plain.size_hint(),
            Kind::Decoded(decoded, _) => decoded.size_hint(),
        }
    }
}

/// Tells what was wrong on the wire from what was wrong with the coding.
fn undecodable(origin: &Origin, error: BoxError) -> Error {
    let error = match error.downcast::<Error>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    let kind = chain::find::<io::Error>(error.as_ref()).map(io::Error::kind);
    let is_cut = kind == Some(io::ErrorKind::UnexpectedEof);
    let fault = if is_cut { Fault::ResponseTruncated } else { Fault::Protocol };
    Error::decoding(origin, fault, error)
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_decoded = matches!(self.kind, Kind::Decoded(..));
        f.debug_struct("Body").field("is_decoded", &is_decoded).finish_non_exhaustive()
    }
}
