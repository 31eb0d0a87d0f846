//! The standard order of the layers, as one list.

use redial_core::Policy;
use tower_layer::Layer;

use crate::{
    attempt_timeout::AttemptTimeoutLayer, deadline::DeadlineLayer, headers::SetHeadersLayer,
    log::LogLayer, observe::LogEvents, policies::PolicyCell, retry::RetryLayer,
};

/// The layers of a call, in the standard order. Each can be replaced, and each can be left out with
/// [`Omit`].
///
/// One type parameter a place, so that a stack costs no more than the layers in it; nobody has to
/// write them.
#[derive(Clone, Debug)]
pub struct Stack<L, D, R, T, H> {
    log: L,
    deadline: D,
    retry: R,
    attempt_timeout: T,
    headers: H,
}

/// The stack that [`stack`] returns.
pub type StandardStack =
    Stack<LogLayer, DeadlineLayer, RetryLayer, AttemptTimeoutLayer, SetHeadersLayer>;

/// No layer at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Omit;

/// Returns the standard stack under `policy`: a fixed one, or one that can be switched while calls
/// are running.
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
///
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use redial::{BoxError, Omit, core::Policy};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// // Any service of HTTP requests will do; `redial_hyper::Transport` is one.
/// let transport = service_fn(|_: Request<_>| async {
///     Ok::<_, BoxError>(Response::new(Empty::<bytes::Bytes>::new()))
/// });
/// let client = redial::stack(Policy::default()).log(Omit).layer(transport);
///
/// let request = Request::get("http://shop.example/").body(Empty::<bytes::Bytes>::new())?;
/// assert_eq!(client.oneshot(request).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
pub fn stack(policy: impl Into<PolicyCell>) -> StandardStack {
    let cell: PolicyCell = policy.into();
    Stack {
        log: LogLayer::new(),
        deadline: DeadlineLayer::new(cell.clone()),
        retry: RetryLayer::new(cell.clone()).observe(LogEvents).mark(),
        attempt_timeout: AttemptTimeoutLayer::new(cell),
        headers: SetHeadersLayer::new(),
    }
}

impl<L, D, R, T, H> Stack<L, D, R, T, H> {
    /// Replaces the layer that logs calls.
    pub fn log<N>(self, log: N) -> Stack<N, D, R, T, H> {
        let Self { deadline, retry, attempt_timeout, headers, .. } = self;
        Stack { log, deadline, retry, attempt_timeout, headers }
    }

    /// Replaces the layer that ends calls at their deadline.
    pub fn deadline<N>(self, deadline: N) -> Stack<L, N, R, T, H> {
        let Self { log, retry, attempt_timeout, headers, .. } = self;
        Stack { log, deadline, retry, attempt_timeout, headers }
    }

    /// Replaces the layer that repeats attempts.
    pub fn retry<N>(self, retry: N) -> Stack<L, D, N, T, H> {
        let Self { log, deadline, attempt_timeout, headers, .. } = self;
        Stack { log, deadline, retry, attempt_timeout, headers }
    }

    /// Replaces the layer that cuts attempts that take too long.
    pub fn attempt_timeout<N>(self, attempt_timeout: N) -> Stack<L, D, R, N, H> {
        let Self { log, deadline, retry, headers, .. } = self;
        Stack { log, deadline, retry, attempt_timeout, headers }
    }

    /// Replaces the layer that sets header fields.
    pub fn headers<N>(self, headers: N) -> Stack<L, D, R, T, N> {
        let Self { log, deadline, retry, attempt_timeout, .. } = self;
        Stack { log, deadline, retry, attempt_timeout, headers }
    }
}

impl<S, L, D, R, T, H> Layer<S> for Stack<L, D, R, T, H>
where
    H: Layer<S>,
    T: Layer<H::Service>,
    R: Layer<T::Service>,
    D: Layer<R::Service>,
    L: Layer<D::Service>,
{
    type Service = L::Service;

    fn layer(&self, transport: S) -> Self::Service {
        // From the outside in, each with the reason for its place:
        self.log // one line a call, whatever happens inside
            .layer(
                self.deadline // covers every attempt, every wait and the body
                    .layer(
                        self.retry // from here on once an attempt
                            .layer(
                                self.attempt_timeout // a slow attempt fails and may be repeated
                                    .layer(
                                        self.headers // each attempt goes out with its fields
                                            .layer(transport),
                                    ),
                            ),
                    ),
            )
    }
}

impl<S> Layer<S> for Omit {
    type Service = S;

    fn layer(&self, inner: S) -> S {
        inner
    }
}

impl Default for StandardStack {
    /// The standard stack under the default policy.
    fn default() -> Self {
        stack(Policy::default())
    }
}
