//! The request, from what the command line says.

use std::{
    fs::File,
    io::{self, Read},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use redial::idempotency::{IdempotencyKey, KeyDialect};

use crate::cli::Failure;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Request")]
pub(crate) struct RequestArgs {
    /// The method; GET without data, POST with
    #[arg(long = "request", short = 'X', value_name = "METHOD")]
    method: Option<String>,
    /// A header field
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body: text, @FILE for a file, @- for standard input
    #[arg(long, short, value_name = "DATA")]
    data: Option<String>,
    /// Send an Idempotency-Key, the same on every attempt, so that any method may be repeated: `auto`
    /// makes one, anything else is sent as it is
    #[arg(long, value_name = "auto|TEXT")]
    idempotency_key: Option<String>,
}

impl RequestArgs {
    pub(crate) fn build(&self, url: &str) -> Result<Request<Bytes>, Failure> {
        let uri = uri(url)?;
        let body = self.data.as_deref().map(data).transpose()?;
        let method = match self.method.as_deref() {
            Some(method) => method.parse().map_err(|_| {
                Failure::usage(format!("method `{method}` is not a token (RFC 9110 §5.6.2)"))
            })?,
            None if body.is_some() => Method::POST,
            None => Method::GET,
        };
        let has_body = body.is_some();
        let mut request = Request::new(body.unwrap_or_default());
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        for field in &self.headers {
            let (name, value) = parse_field(field)?;
            request.headers_mut().append(name, value);
        }
        let defaults = [
            (header::USER_AGENT, Some(USER_AGENT)),
            (header::ACCEPT, Some("*/*")),
            (header::CONTENT_TYPE, has_body.then_some("application/x-www-form-urlencoded")),
        ];
        for (name, value) in defaults {
            if let Some(value) = value.filter(|_| !request.headers().contains_key(&name)) {
                request.headers_mut().insert(name, HeaderValue::from_static(value));
            }
        }
        if let Some(key) = &self.idempotency_key {
            let name = HeaderName::from_static("idempotency-key");
            request.headers_mut().insert(name, idempotency_key(key)?);
        }
        Ok(request)
    }
}

fn uri(url: &str) -> Result<Uri, Failure> {
    let wrong = |why: &str| Failure::usage(format!("URL `{url}` {why}"));
    let uri: Uri = url.parse().map_err(|error| wrong(&format!("is not one: {error}")))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(scheme) => {
            return Err(wrong(&format!("has the scheme {scheme}; http and https are spoken")));
        }
        None => return Err(wrong(&format!("has no scheme; did you mean `http://{url}`?"))),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("has no host"));
    }
    Ok(uri)
}

pub(crate) fn parse_field(field: &str) -> Result<(HeaderName, HeaderValue), Failure> {
    let (name, value) = field.split_once(':').ok_or_else(|| {
        Failure::usage(format!("header `{field}` has no colon; write `Name: value`"))
    })?;
    let parsed = name.trim().parse::<HeaderName>();
    let name =
        parsed.map_err(|_| Failure::usage(format!("header name `{name}` is not a token")))?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| {
        Failure::usage(format!("header `{name}` has a value with control characters"))
    })?;
    Ok((name, value))
}

/// A new key is sent as the draft writes it, a string in quotes; one that was given, as it was given.
fn idempotency_key(key: &str) -> Result<HeaderValue, Failure> {
    if key == "auto" {
        return Ok(IdempotencyKey::generate().to_field(KeyDialect::Quoted));
    }
    let is_usable = !key.is_empty() && key.len() <= KEY_BYTES_MAX;
    let value = HeaderValue::from_str(key).ok().filter(|_| is_usable);
    value.ok_or_else(|| {
        Failure::usage(format!("an idempotency key has 1 to {KEY_BYTES_MAX} visible characters"))
    })
}

fn data(data: &str) -> Result<Bytes, Failure> {
    let Some(name) = data.strip_prefix('@') else {
        return Ok(Bytes::copy_from_slice(data.as_bytes()));
    };
    let wrong = |error: io::Error| Failure::usage(format!("cannot read data from {name}: {error}"));
    let mut bytes = Vec::new();
    let limit = BODY_BYTES_MAX + 1;
    let read = if name == "-" {
        io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(name).map_err(wrong)?.take(limit).read_to_end(&mut bytes)
    };
    read.map_err(wrong)?;
    if BODY_BYTES_MAX < bytes.len() as u64 {
        return Err(Failure::usage(format!("data from {name} is above {BODY_BYTES_MAX} bytes")));
    }
    Ok(bytes.into())
}

const USER_AGENT: &str = concat!("redial/", env!("CARGO_PKG_VERSION"));
/// What fits into memory on any machine that this runs on.
const BODY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Stripe's limit, the tightest of those published.
const KEY_BYTES_MAX: usize = 255;
