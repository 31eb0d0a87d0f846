//! The answer's body, on its way to standard output or a file.

use std::{
    path::{Path, PathBuf},
    pin::pin,
};

use http_body_util::BodyExt;
use redial::{
    BoxError, FellBack, Rejection,
    core::{Fault, Stop},
};
use tokio::{
    fs::File,
    io::{self, AsyncWrite, AsyncWriteExt},
};

use super::{
    FetchArgs,
    call::{Answer, Ended, fault_of},
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
    sink.finish().await?;
    let fell_back = head.extensions.get::<FellBack>().copied();
    // A call that a fallback answered has not succeeded, though no attempt may have told so.
    let silent = if fell_back.is_some() { Stop::Permanent } else { Stop::Success };
    let stop = recorder.stop().unwrap_or(silent);
    let (status, message) = (Some(status), wish(&head));
    Ok(Ended { status, stop, is_refused: false, fell_back, message })
}

/// What the server asked for, for people to know when we do not wait for it.
fn wish(head: &http::response::Parts) -> Option<String> {
    let now = jiff::Timestamp::now().as_second();
    let wish = redial::http::wish(&head.headers, || now, true);
    let wait = wish.pushback?.wait();
    let field = wish.field?;
    Some(format!("the server asked to wait for {} ({field})", show::span(wait)))
}

fn broken(error: &BoxError, status: u16, recorder: &Recorder) -> Ended {
    let is_deadline = matches!(error.downcast_ref(), Some(Rejection::DeadlineExceeded { .. }));
    let (stop, message) = if is_deadline {
        (Stop::Deadline, error.to_string())
    } else {
        let diagnosis = fault_of(error);
        let fault = match diagnosis.fault {
            Fault::Other => Fault::ResponseTruncated,
            fault => fault,
        };
        recorder.broke_off(fault, diagnosis.proof.evidence());
        (Stop::NotReplayable, format!("the answer broke off: {error}"))
    };
    let (status, message) = (Some(status), Some(message));
    Ended { status, stop, is_refused: false, fell_back: None, message }
}

fn head_bytes(head: &http::response::Parts) -> Vec<u8> {
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

/// Where the body goes. A file appears under its name when it is complete, not before; the answer to
/// a request that failed does not become the file.
enum Sink {
    Stdout(io::Stdout),
    File { file: File, partial: Partial, name: PathBuf },
    Nowhere,
}

/// A file that is removed unless it is kept, even when the call is interrupted.
struct Partial {
    path: Option<PathBuf>,
}

impl Sink {
    async fn open(args: &FetchArgs, is_success: bool) -> Result<Self, Failure> {
        let Some(name) = &args.output else { return Ok(Self::Stdout(io::stdout())) };
        if !is_success {
            return Ok(Self::Nowhere);
        }
        let path = partial_path(name);
        let file = File::create(&path).await.map_err(|error| cannot(name, &error))?;
        let partial = Partial { path: Some(path) };
        Ok(Self::File { file, partial, name: name.clone() })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout(stdout) => write_all(stdout, bytes).await.map_err(Failure::from),
            Self::File { file, name, .. } => {
                write_all(file, bytes).await.map_err(|error| cannot(name, &error))
            }
            Self::Nowhere => Ok(()),
        }
    }

    async fn finish(self) -> Result<(), Failure> {
        if let Self::File { file, mut partial, name } = self {
            file.sync_all().await.map_err(|error| cannot(&name, &error))?;
            drop(file);
            if let Some(path) = partial.path.take() {
                let renamed = tokio::fs::rename(&path, &name).await;
                renamed.map_err(|error| cannot(&name, &error))?;
            }
        }
        Ok(())
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

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // If it cannot be removed, it still does not have the name of the file.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The name under which a file is written: beside its own, so that renaming it is one step.
fn partial_path(name: &Path) -> PathBuf {
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name.file_name().unwrap_or_default());
    partial.push(".partial");
    name.with_file_name(partial)
}

fn cannot(name: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot write {}: {error}", name.display()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;

    use super::*;

    #[test]
    fn a_file_is_written_beside_its_own_name() {
        assert_eq!(partial_path(Path::new("a/b.json")), Path::new("a/.b.json.partial"));
        assert_eq!(partial_path(Path::new("b.json")), Path::new(".b.json.partial"));
    }

    #[test]
    fn heads_are_written_as_http_has_them() {
        let answer = Response::builder().status(404).header("a", "b").body(Bytes::new()).unwrap();
        let (head, _) = answer.into_parts();
        assert_eq!(head_bytes(&head), b"HTTP/1.1 404 Not Found\r\na: b\r\n\r\n");
    }
}
