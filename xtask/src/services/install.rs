//! Installs what is missing, by apt.

use std::{process::Command, sync::Once};

use anyhow::{Context as _, Result, bail};

use super::program;
use crate::shell;

/// A package of Debian, and what we want of it.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) programs: &'static [&'static str],
    /// Where programs are that are not on PATH; `*` is a version.
    pub(super) folders: &'static [&'static str],
}

/// Runs a program with another clock, for tests of holders whose clocks differ.
pub(super) static FAKETIME: Package =
    Package { name: "faketime", programs: &["faketime"], folders: &[] };

/// Installs `package` unless all of its programs are there.
pub(super) fn ensure(package: &Package) -> Result<()> {
    let name = package.name;
    let missing = || package.programs.iter().find(|name| program(package, name).is_none());
    let Some(first) = missing() else { return Ok(()) };
    eprintln!("services: {first} is not here; installing {name} with apt-get");
    let how = || {
        format!(
            "{first} is missing; install the package {name} (or its like), or run as root where \
             there is apt-get"
        )
    };
    static UPDATE: Once = Once::new();
    // An old list of packages may still do, so a failure to refresh it is not the end.
    UPDATE.call_once(|| drop(apt(&["update", "-qq"])));
    apt(&["install", "-y", "-qq", "--no-install-recommends", name]).with_context(how)?;
    if let Some(still) = missing() {
        bail!("{name} was installed and has no {still}");
    }
    Ok(())
}

fn apt(args: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    let quiet = apt.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    // What apt says goes to standard error: standard output is for addresses.
    shell::run(quiet.stdout(std::io::stderr()))
}
