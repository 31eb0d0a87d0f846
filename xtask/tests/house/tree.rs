//! The files of the tree, without what is built or fetched.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns the root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Returns every file with this extension (or, without any, this name), in order.
pub(crate) fn files(kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let last = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_symlink() {
                continue;
            } else if path.is_dir() {
                let foreign = ["target", ".git", "node_modules"];
                if !foreign.contains(&last.as_str()) && !last.starts_with("mutants.out") {
                    folders.push(path);
                }
            } else if path.extension().map_or(last == kind, |extension| extension == kind) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Returns the path of `file` from the root, as it is written in messages.
pub(crate) fn name(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string().replace('\\', "/")
}

/// Reads a file of the tree.
pub(crate) fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
