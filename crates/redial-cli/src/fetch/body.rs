//! The answer's body, on its way to standard output or a file.

use std::{path::Path, pin::pin};

use http::response::Parts;
use http_body_util::BodyExt;
use redial::{BoxError, FellBack, core::Stop};
use tokio::{
    fs::File,
    io::{self, AsyncWrite, AsyncWriteExt},
};

use super::{
    FetchArgs,
    call::{Answer, Ended, fault_of, is_late},
    record::Recorder,
};
use crate::{cli::Failure, show};

/// Writes the answer where it belongs; returns how the call has ended with that.
pub(super) async fn write(
    args: &FetchArgs,
    answer: Answer,
    recorder: &Recorder,
) -> Result<Ended, Failure> {
    recorder.timeline(super::timeline::Timeline::clear);
    let (head, body) = answer.into_parts();
    let status = head.status.as_u16();
    let is_success = status < 400;
    let mut sink = Sink::open(args, is_success).await?;
    if args.include {
        sink.write(&head_bytes(&head)).await?;
    }
    let mut body = pin!(body);
    let ended = loop {
        match body.frame().await {
            None => break None,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    sink.write(&data).await?;
                }
            }
            Some(Err(error)) => break Some(broken(&error, status, recorder)),
        }
    };
    if let Some(ended) = ended {
        sink.discard().await;
        return Ok(ended);
    }
    Ok(answered(&head, recorder))
}

/// How a call has ended whose answer came as a whole.
pub(super) fn answered(head: &Parts, recorder: &Recorder) -> Ended {
    let fell_back = head.extensions.get::<FellBack>().copied();
    // A call that a fallback answered has not succeeded, though no attempt may have told so.
    let silent = if fell_back.is_some() { Stop::Permanent } else { Stop::Success };
    let stop = recorder.stop().unwrap_or(silent);
    let (status, message) = (Some(head.status.as_u16()), wish(head));
    Ended { status, stop, is_refused: false, fell_back, message }
}

/// What the server asked for, for people to know when we do not wait for it.
fn wish(head: &Parts) -> Option<String> {
    let now = jiff::Timestamp::now().as_second();
    let wish = redial::http::wish(&head.headers, || now, true);
    let wait = wish.pushback?.wait();
    let field = wish.field?;
    Some(format!("the server asked to wait for {} ({field})", show::span(wait)))
}

/// How a call has ended whose answer broke off for good.
pub(super) fn broken(error: &BoxError, status: u16, recorder: &Recorder) -> Ended {
    let (stop, message) = if is_late(error) {
        (Stop::Deadline, error.to_string())
    } else {
        recorder.broke_off(
            fault_of(error),
            "stop",
            "a part of the answer had been handed on already",
        );
        (Stop::NotReplayable, format!("the answer broke off: {error}"))
    };
    let (status, message) = (Some(status), Some(message));
    Ended { status, stop, is_refused: false, fell_back: None, message }
}

pub(super) fn head_bytes(head: &Parts) -> Vec<u8> {
    let mut text = format!("{:?} {}\r\n", head.version, head.status).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Where the body goes as it comes. Files that have a name of their own to appear under are not among
/// them: see [`super::download`].
enum Sink {
    Stdout(io::Stdout),
    /// A device or a pipe, which stays what it is.
    Device(File),
    /// Where the answer to a request that failed goes, when a file was wanted.
    Nowhere,
}

impl Sink {
    async fn open(args: &FetchArgs, is_success: bool) -> Result<Self, Failure> {
        let Some(name) = args.output_name() else { return Ok(Self::Stdout(io::stdout())) };
        if !is_success {
            return Ok(Self::Nowhere);
        }
        let file = File::options().write(true).open(name).await;
        file.map(Self::Device).map_err(|error| cannot_write(name, &error))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match self {
            Self::Stdout(stdout) => write_all(stdout, bytes).await,
            Self::Device(file) => write_all(file, bytes).await,
            Self::Nowhere => Ok(()),
        };
        written.map_err(Failure::from)
    }

    async fn discard(self) {
        if let Self::Stdout(mut stdout) = self {
            // What was written is out already; this cannot make it worse.
            let _ = stdout.flush().await;
        }
    }
}

async fn write_all(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

pub(super) fn cannot_write(name: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot write {}: {error}", name.display()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;

    use super::*;

    #[test]
    fn heads_are_written_as_http_has_them() {
        let answer = Response::builder().status(404).header("a", "b").body(Bytes::new()).unwrap();
        let (head, _) = answer.into_parts();
        assert_eq!(head_bytes(&head), b"HTTP/1.1 404 Not Found\r\na: b\r\n\r\n");
    }
}
