//! What an outcome says about the upstream's health.

use http::Response;
use redial_core::{Assessment, Fault, Health};

use crate::{clock, diagnose::Diagnose, http as semantics};

/// Tells what an attempt's outcome says about the upstream: what breakers, limits and throttles count.
///
/// Closures over the outcome are assessors.
pub trait Assess<T, E> {
    /// Returns what `outcome` says.
    fn assess(&self, outcome: &Result<Response<T>, E>) -> Assessment;
}

/// Assesses outcomes as HTTP means them.
///
/// 429, 503 and answers that do not come in time are [`Health::Overloaded`]; other 5xx but 501 and
/// 505, and everything that happens to a connection, are [`Health::Failed`]. Our own refusals, and what
/// the caller did wrong before anything was sent, tell nothing. All else says that the upstream is well.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpAssess;

impl<T, E: Diagnose> Assess<T, E> for HttpAssess {
    fn assess(&self, outcome: &Result<Response<T>, E>) -> Assessment {
        match outcome {
            Ok(response) => {
                let health = health_of_status(response.status().as_u16());
                if health.is_failure() {
                    let wish = semantics::wish(response.headers(), clock::unix_now, true).pushback;
                    return Assessment { health, pushback: wish.map(|wish| wish.wait()) };
                }
                health.into()
            }
            Err(error) => health_of_fault(error.diagnose().fault).into(),
        }
    }
}

impl<F, T, E> Assess<T, E> for F
where
    F: Fn(&Result<Response<T>, E>) -> Assessment,
{
    fn assess(&self, outcome: &Result<Response<T>, E>) -> Assessment {
        self(outcome)
    }
}

const fn health_of_status(code: u16) -> Health {
    match code {
        429 | 503 => Health::Overloaded,
        501 | 505 => Health::Well,
        500.. => Health::Failed,
        _ => Health::Well,
    }
}

const fn health_of_fault(fault: Fault) -> Health {
    match fault {
        Fault::AttemptTimeout | Fault::ConnectTimeout => Health::Overloaded,
        Fault::Rejected | Fault::Cancelled | Fault::RequestBody | Fault::InvalidRequest => {
            Health::Unknown
        }
        _ => Health::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;
    use crate::{BoxError, Rejection};

    fn status(code: u16) -> Assessment {
        let response = Response::builder().status(code).header("retry-after", "7").body(());
        HttpAssess.assess(&Ok::<_, BoxError>(response.unwrap()))
    }

    #[test]
    fn statuses_tell_how_the_upstream_is() {
        for code in [200, 304, 404, 408, 499, 501, 505] {
            assert_eq!(status(code), Health::Well.into(), "{code}");
        }
        let wait = Some(Duration::from_secs(7));
        for code in [500, 502, 504, 599] {
            assert_eq!(status(code), Assessment { health: Health::Failed, pushback: wait });
        }
        for code in [429, 503] {
            assert_eq!(status(code), Assessment { health: Health::Overloaded, pushback: wait });
        }
    }

    #[test]
    fn errors_tell_it_too_and_our_own_refusals_do_not() {
        let assess = |error: BoxError| HttpAssess.assess(&Err::<Response<()>, _>(error)).health;
        assert_eq!(assess(io::Error::from(io::ErrorKind::ConnectionReset).into()), Health::Failed);
        let late = Rejection::AttemptTimeout { after: Duration::from_secs(1) };
        assert_eq!(assess(late.into()), Health::Overloaded);
        let refused = Rejection::RateLimited { retry_after: Duration::from_secs(1) };
        assert_eq!(assess(refused.into()), Health::Unknown);
    }
}
