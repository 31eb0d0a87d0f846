//! Redial for reqwest: a middleware, and a tower service over its client.
