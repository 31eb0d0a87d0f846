//! A system clock that stands still until we move it.
//!
//! Some peers read the system's clock, which tokio cannot pause. On Linux this program therefore starts
//! itself anew with a small library (`clock.c`) loaded before the C library: the clock then stands, and a
//! sleep moves it instead of lasting. Elsewhere, and without a C compiler, those peers are left out.

use std::{
    env, io,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Returns whether the system's clock stands; if it does not, tries once to start this program again
/// under one that does, and does not return then.
pub(crate) fn stands() -> bool {
    if env::var_os(MARK).is_none() {
        // Whatever is missing, the run goes on without it.
        let _ = start_again();
        return false;
    }
    let before = system_now();
    thread::yield_now();
    before == system_now()
}

/// Moves the system's clock to where tokio's paused one is. Call only where the clock [stands].
pub(crate) fn follow() {
    let ahead = tokio::time::Instant::now().into_std().saturating_duration_since(system_now());
    if !ahead.is_zero() {
        sleep(ahead);
    }
}

#[expect(clippy::disallowed_methods, reason = "it stands, or is about to be found running")]
fn system_now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "moves a clock that stands; does not sleep")]
fn sleep(span: Duration) {
    thread::sleep(span);
}

#[cfg(target_os = "linux")]
fn start_again() -> io::Result<()> {
    use std::os::unix::process::CommandExt;

    let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("libclock.so");
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/failure/clock.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .args([&library, &source])
        .status()?;
    if !built.success() {
        return Err(io::Error::other("clock.c does not compile"));
    }
    let mut again = Command::new(env::current_exe()?);
    Err(again.args(env::args_os().skip(1)).env(MARK, "1").env("LD_PRELOAD", library).exec())
}

#[cfg(not(target_os = "linux"))]
fn start_again() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

const MARK: &str = "REDIAL_BENCH_CLOCK_STANDS";
