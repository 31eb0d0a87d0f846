//! Redial for gRPC over tonic channels.
//!
//! [`stack`] returns the layers that a tonic client needs to survive a failing server: retries as
//! gRFC A6 has them, one deadline for the whole call that goes along as `grpc-timeout`, and refusals
//! with the right status code. [`ServerDeadlineLayer`] is the other end: a server that passes its
//! caller's deadline on.
//!
//! gRPC's codes say what may be repeated ([`GrpcPolicy`]); what a channel's errors prove about a
//! request ([`GrpcError`]) is read from their types.

mod call;
mod classify;
mod clock;
mod codes;
mod early;
mod error;
mod fault;
mod fields;
mod head;
mod methods;
mod policy;
mod server;
mod stack;
#[cfg(test)]
mod test_error;
mod transport;

pub use call::{GrpcBody, GrpcCall, GrpcCallFuture, GrpcCallLayer};
pub use classify::{GrpcAssess, GrpcClassifier};
pub use codes::{CodeSet, UnknownCode, code_name, code_of_http};
pub use early::{EarlyBody, EarlyStatus, EarlyStatusFuture, EarlyStatusLayer, SentBody};
pub use error::{GrpcError, rejection_of};
pub use fields::{AttemptFields, AttemptFieldsLayer};
pub use methods::{InvalidMethod, MethodSet};
pub use policy::{GrpcPolicy, GrpcPolicyCell};
pub use redial::http::{InvalidTimeout, format_grpc_timeout, parse_grpc_timeout};
pub use server::{ServerDeadline, ServerDeadlineBody, ServerDeadlineFuture, ServerDeadlineLayer};
pub use stack::{GrpcStack, StandardLayers, stack};
pub use transport::{GrpcTransport, GrpcTransportFuture, GrpcTransportLayer};

/// Compiles what the page shows.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/tonic.md")]
struct Page;
