//! The file that a download is written to until it is complete.
//!
//! `FILE.part` beside `FILE`, and a note beside that. At every moment, even one at which the process is
//! killed, the note either describes the bytes in it or says nothing of them; `FILE` is only ever replaced
//! by a file that is complete.

use std::{
    fs::{self, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use http::HeaderMap;
use redial::{DigestCheck, Rejection, Representation};
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
};

use super::{
    body::cannot_write,
    note::{Kept, Note, part_of},
};
use crate::cli::Failure;

/// A partial file, which no other run writes to.
pub(super) struct Partial {
    file: File,
    name: PathBuf,
    path: PathBuf,
    url: String,
    /// What is in it, if that is known.
    note: Option<Note>,
    at: u64,
    is_complete: bool,
}

impl Partial {
    /// Opens the partial file of `name`, and leaves what is in it as it is.
    pub(super) fn open(name: &Path, url: &str) -> Result<Self, Failure> {
        if name.is_dir() || name.file_name().is_none() {
            let name = name.display();
            return Err(Failure::usage(format!("{name} is a folder; name a file in it")));
        }
        let path = part_of(name);
        let file = locked(&path)?;
        let at = file.metadata().map_err(|error| cannot_write(&path, &error))?.len();
        let note = Note::read(&path);
        if note.is_none() && 0 < at {
            let path = path.display();
            return Err(Failure::usage(format!(
                "{path} is in the way: it is no partial file of ours, as there is no {path}.json; \
                 move it away"
            )));
        }
        let (name, url, file) = (name.to_owned(), url.to_owned(), File::from_std(file));
        Ok(Self { file, name, path, url, note, at, is_complete: false })
    }

    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// What is known of what is in it.
    pub(super) const fn note(&self) -> Option<&Note> {
        self.note.as_ref()
    }

    /// What the bytes in it belong to, if this run can ask for the rest of it.
    pub(super) fn goes_on(&self) -> Option<Representation> {
        self.kept()?;
        let note = self.note.as_ref().filter(|note| note.is_of(&self.url))?;
        Some(note.representation())
    }

    /// What is there for later runs.
    pub(super) fn kept(&self) -> Option<Kept> {
        let representation = self.note.as_ref()?.representation();
        representation.if_range()?;
        let length = representation.length()?;
        (0 < self.at && self.at <= length).then_some(Kept { at: self.at, length })
    }

    /// Makes it an empty file of what `headers` describe, or of nothing that can be gone on with.
    pub(super) async fn begin(&mut self, headers: Option<&HeaderMap>) -> Result<(), Failure> {
        let note =
            headers.map_or_else(|| Note::blank(&self.url), |headers| Note::new(&self.url, headers));
        // First it says nothing, then there is nothing, then it says what comes.
        let emptied = async {
            Note::blank(&self.url).write(&self.path)?;
            self.file.set_len(0).await?;
            self.file.seek(SeekFrom::Start(0)).await?;
            note.write(&self.path)
        };
        emptied.await.map_err(|error| cannot_write(&self.path, &error))?;
        (self.at, self.note) = (0, Some(note));
        Ok(())
    }

    /// Goes to the end of what is there.
    pub(super) async fn go_on(&mut self) -> Result<(), Failure> {
        let sought = self.file.seek(SeekFrom::Start(self.at)).await;
        sought.map(drop).map_err(|error| self.cannot_write(&error))
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes).await;
        written.map_err(|error| self.cannot_write(&error))?;
        self.at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Waits until all that was written is in the file.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.file.flush().await;
        flushed.map_err(|error| self.cannot_write(&error))
    }

    /// Reads what is on the disk once more, and holds it against the digest.
    pub(super) async fn check(
        &mut self,
        digest: DigestCheck,
    ) -> Result<Option<Rejection>, Failure> {
        let read = async {
            // The same handle: some systems keep all others off a file that is locked.
            let file = self.file.try_clone().await?.into_std().await;
            let read = tokio::task::spawn_blocking(move || check(file, digest));
            read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        let path = self.path.display();
        let read = read.await;
        read.map_err(|error| Failure::usage(format!("cannot read {path} again: {error}")))
    }

    /// Gives it its name.
    pub(super) async fn finish(mut self) -> Result<(), Failure> {
        self.flush().await?;
        let synced = self.file.sync_all().await;
        synced.map_err(|error| self.cannot_write(&error))?;
        let renamed = fs::rename(&self.path, &self.name);
        renamed.map_err(|error| cannot_write(&self.name, &error))?;
        self.is_complete = true;
        Note::remove(&self.path);
        sync_folder(&self.name);
        Ok(())
    }

    /// Forgets what is in it; it is removed, or begun anew.
    pub(super) fn forget(&mut self) {
        self.note = None;
    }

    fn cannot_write(&self, error: &io::Error) -> Failure {
        let kept = if self.kept().is_some() {
            "; what came is kept, and the same command with --continue goes on from there"
        } else {
            ""
        };
        Failure::usage(format!("cannot write {}: {error}{kept}", self.path.display()))
    }
}

impl Drop for Partial {
    /// Leaves what a later run can go on with, and nothing else, even when the call is interrupted.
    fn drop(&mut self) {
        if !self.is_complete && self.kept().is_none() {
            // If it cannot be removed, it still does not have the name of the file.
            let _ = fs::remove_file(&self.path);
            Note::remove(&self.path);
        }
    }
}

/// Opens or creates a file that no other run has open.
fn locked(path: &Path) -> Result<fs::File, Failure> {
    let cannot = |error: io::Error| cannot_write(path, &error);
    for _ in 0..LAPS_MAX {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => break,
            // Not every file system has locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        // The run before may have finished, and given this file its name, since it was opened.
        if is_at(&file, path) {
            return Ok(file);
        }
    }
    let path = path.display();
    Err(Failure::usage(format!(
        "{path} is being written by another run; wait for it, or write to another file"
    )))
}

#[cfg(unix)]
fn is_at(file: &fs::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (opened, there) = (file.metadata().map(identity), fs::metadata(path).map(identity));
    matches!((opened, there), (Ok(opened), Ok(there)) if opened == there)
}

#[cfg(not(unix))]
fn is_at(_: &fs::File, path: &Path) -> bool {
    path.exists()
}

fn check(mut file: fs::File, mut digest: DigestCheck) -> io::Result<Option<Rejection>> {
    file.rewind()?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(digest.finish().err()),
            Ok(count) => digest.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// So that the name is there after a power failure, too.
fn sync_folder(name: &Path) {
    let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Ok(folder) = fs::File::open(folder.unwrap_or(Path::new("."))) {
        // Some file systems cannot; the file itself is safe.
        let _ = folder.sync_all();
    }
}

const LAPS_MAX: u32 = 5;
const BUFFER_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("redial-{}", uuid::Uuid::now_v7()));
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const URL: &str = "http://a.example/file";

    fn tagged() -> HeaderMap {
        let text = HeaderValue::from_static;
        HeaderMap::from_iter([
            (http::header::ETAG, text("\"v1\"")),
            (http::header::CONTENT_LENGTH, text("10")),
        ])
    }

    #[tokio::test]
    async fn what_can_be_gone_on_with_stays_and_the_rest_goes() {
        let folder = Folder::new();
        let name = folder.0.join("f");
        let mut partial = Partial::open(&name, URL).unwrap();
        partial.begin(Some(&tagged())).await.unwrap();
        drop(partial);
        assert_eq!(folder.names(), [""; 0], "nothing came");
        for (headers, left) in [(Some(tagged()), 2), (Some(HeaderMap::new()), 0), (None, 0)] {
            let mut partial = Partial::open(&name, URL).unwrap();
            partial.begin(headers.as_ref()).await.unwrap();
            partial.write(b"0123").await.unwrap();
            partial.flush().await.unwrap();
            drop(partial);
            assert_eq!(folder.names().len(), left, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn a_later_run_goes_on_and_the_name_appears_at_the_end() {
        let folder = Folder::new();
        let name = folder.0.join("f");
        let mut partial = Partial::open(&name, URL).unwrap();
        partial.begin(Some(&tagged())).await.unwrap();
        partial.write(b"0123").await.unwrap();
        partial.flush().await.unwrap();
        drop(partial);
        assert_eq!(Kept::of(&name), Some(Kept { at: 4, length: 10 }));
        assert!(Partial::open(&name, "http://b.example/").unwrap().goes_on().is_none());
        let mut partial = Partial::open(&name, URL).unwrap();
        let representation = partial.goes_on().unwrap();
        assert_eq!((partial.at(), representation.if_range()), (4, tagged().get("etag")));
        partial.go_on().await.unwrap();
        partial.write(b"456789").await.unwrap();
        partial.finish().await.unwrap();
        assert_eq!(folder.names(), ["f"]);
        assert_eq!(fs::read(name).unwrap(), b"0123456789");
    }

    #[tokio::test]
    async fn two_runs_do_not_write_to_one_file() {
        let folder = Folder::new();
        let name = folder.0.join("f");
        let first = Partial::open(&name, URL).unwrap();
        let Err(refused) = Partial::open(&name, URL) else { panic!("both have it") };
        assert!(format!("{refused:?}").contains("another run"), "{refused:?}");
        first.finish().await.unwrap();
        assert!(Partial::open(&name, URL).is_ok());
    }

    #[test]
    fn folders_and_files_of_others_are_refused() {
        let folder = Folder::new();
        fs::write(folder.0.join("f.part"), "somebody's").unwrap();
        for (name, words) in [(folder.0.clone(), "is a folder"), (folder.0.join("f"), "in the way")]
        {
            let Err(refused) = Partial::open(&name, URL) else { panic!("{}", name.display()) };
            assert!(format!("{refused:?}").contains(words), "{refused:?}");
        }
        assert_eq!(fs::read(folder.0.join("f.part")).unwrap(), b"somebody's");
    }
}
