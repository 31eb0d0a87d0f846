//! Installs servers that are missing, by apt.

use std::{process::Command, sync::Once};

use anyhow::{Context as _, Result, bail};

use super::{program, server::Kind};
use crate::shell;

/// Installs the package of `kind` unless all of its programs are there.
pub(super) fn ensure(kind: &Kind) -> Result<()> {
    let missing = || kind.programs.iter().find(|name| program(kind, name).is_none());
    let Some(first) = missing() else { return Ok(()) };
    eprintln!("services: {first} is not here; installing {} with apt-get", kind.package);
    let how = || {
        format!(
            "{} needs {first}; install the package {} (or its like), or run as root where there is \
             apt-get",
            kind.title, kind.package
        )
    };
    static UPDATE: Once = Once::new();
    // An old list of packages may still do, so a failure to refresh it is not the end.
    UPDATE.call_once(|| drop(apt(&["update", "-qq"])));
    apt(&["install", "-y", "-qq", "--no-install-recommends", kind.package]).with_context(how)?;
    if let Some(still) = missing() {
        bail!("{}; {} was installed and has no {still}", how(), kind.package);
    }
    Ok(())
}

fn apt(args: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    let quiet = apt.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    // What apt says goes to standard error: standard output is for addresses.
    shell::run(quiet.stdout(std::io::stderr()))
}
