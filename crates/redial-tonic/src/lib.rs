//! Redial for gRPC over tonic channels.
