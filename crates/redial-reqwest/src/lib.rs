//! Redial for reqwest: a middleware, and a tower service over its client.
//!
//! [`RedialMiddleware`] goes into a client of `reqwest-middleware` and leaves the code that uses it
//! as it is. [`ReqwestTransport`] is the foot of a stack of `tower` layers. Both run the same
//! layers, and both say of a failure what is proven about the server having acted.

mod body;
mod error;
mod fault;
#[cfg(feature = "middleware")]
mod middleware;
#[cfg(feature = "middleware")]
mod relay;
mod response;
mod transport;
mod turn;

pub use crate::{
    error::Error,
    response::{attempts, into_response},
    transport::{ReqwestTransport, TransportFuture},
};
#[cfg(feature = "middleware")]
pub use crate::{
    middleware::{RedialMiddleware, rejection},
    relay::{Relay, RelayFuture, RequestBody},
};

/// The code in the documentation compiles and does what it says.
#[cfg(all(doctest, feature = "middleware"))]
#[doc = include_str!("../../../docs/reqwest.md")]
struct Page;
