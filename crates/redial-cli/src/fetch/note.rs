//! What is kept beside a partial file, so that a later run can tell what it is a part of.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use redial::Representation;
use serde::{Deserialize, Serialize};

/// Beside the partial file: where it comes from, and what the server said of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Note {
    url: String,
    /// The fields that describe the whole file; none while it is being begun anew.
    head: Vec<(String, String)>,
}

/// A partial file of an earlier run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Kept {
    /// How many bytes are there.
    pub(crate) at: u64,
    /// How many there are in all.
    pub(crate) length: u64,
}

impl Note {
    pub(super) fn new(url: &str, headers: &HeaderMap) -> Self {
        let fields = NOTED.into_iter().flat_map(|name| {
            let values = headers.get_all(&name).iter();
            let values = values.filter_map(|value| value.to_str().ok().map(ToOwned::to_owned));
            values.map(|value| (name.to_string(), value)).collect::<Vec<_>>()
        });
        let note = Self { url: url.to_owned(), head: fields.collect() };
        // What cannot be noted to the letter is not gone on with.
        let is_exact = note.representation().if_range() == Representation::of(headers).if_range();
        if is_exact { note } else { Self { head: Vec::new(), ..note } }
    }

    /// A note that claims the partial file, and says nothing of what is in it.
    pub(super) fn blank(url: &str) -> Self {
        Self { url: url.to_owned(), head: Vec::new() }
    }

    pub(super) fn is_of(&self, url: &str) -> bool {
        self.url == url
    }

    pub(super) fn representation(&self) -> Representation {
        Representation::of(&self.headers())
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let fields = self.head.iter().filter_map(|(name, value)| {
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
        });
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    }

    /// Reads the note of the partial file `part`; `None` if there is none that makes sense.
    pub(super) fn read(part: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(beside(part)).ok()?).ok()
    }

    /// Puts this note in the place of the one before, in one step.
    pub(super) fn write(&self, part: &Path) -> io::Result<()> {
        let (path, fresh) = (beside(part), with(part, FRESH));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        // A URL may be a secret.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&fresh)?;
        serde_json::to_writer(&mut file, self)?;
        file.write_all(b"\n")?;
        drop(file);
        fs::rename(fresh, path)
    }

    pub(super) fn remove(part: &Path) {
        // Without the partial file it says nothing to anybody. A run that was killed may have left a new one.
        let _ = fs::remove_file(beside(part));
        let _ = fs::remove_file(with(part, FRESH));
    }
}

impl Kept {
    /// Looks for a partial file of `name` that a later run can go on with.
    pub(crate) fn of(name: &Path) -> Option<Self> {
        let part = part_of(name);
        let representation = Note::read(&part)?.representation();
        representation.if_range()?;
        let (at, length) = (fs::metadata(part).ok()?.len(), representation.length()?);
        (0 < at && at <= length).then_some(Self { at, length })
    }
}

/// The partial file of `name`: beside it, so that renaming it is one step.
pub(crate) fn part_of(name: &Path) -> PathBuf {
    with(name, ".part")
}

fn beside(part: &Path) -> PathBuf {
    with(part, ".json")
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut longer = path.as_os_str().to_owned();
    longer.push(ending);
    longer.into()
}

const FRESH: &str = ".json.new";

const NOTED: [HeaderName; 9] = [
    header::ETAG,
    header::LAST_MODIFIED,
    header::DATE,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT_RANGES,
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("content-digest"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_note_keeps_what_the_rest_is_told_by() {
        let answer = headers(&[
            ("etag", b"\"v1\""),
            ("content-length", b"10"),
            ("repr-digest", b"md5=:AAAA:"),
            ("set-cookie", b"secret"),
        ]);
        let note = Note::new("http://a.example/", &answer);
        let text = serde_json::to_string(&note).unwrap();
        assert!(!text.contains("secret"), "{text}");
        let note: Note = serde_json::from_str(&text).unwrap();
        assert!(note.is_of("http://a.example/") && !note.is_of("http://a.example/?"));
        assert_eq!(note.representation().length(), Some(10));
        assert_eq!(note.representation().if_range(), answer.get("etag"));
        assert!(note.headers().contains_key("repr-digest"));
    }

    #[test]
    fn a_tag_that_cannot_be_noted_is_not_gone_on_with() {
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        let answer = headers(&[
            ("etag", b"\"\xff\""),
            ("content-length", b"10"),
            ("last-modified", date),
            ("date", b"Mon, 07 Nov 1994 08:49:37 GMT"),
        ]);
        assert_eq!(Note::new("", &answer).representation().if_range(), None);
        let two = headers(&[("etag", b"\"a\""), ("etag", b"\"b\""), ("content-length", b"10")]);
        assert_eq!(Note::new("", &two).representation().if_range(), None);
        assert_eq!(Note::blank("").representation().if_range(), None);
    }

    #[test]
    fn files_of_a_download_stand_beside_it() {
        assert_eq!(part_of(Path::new("a/b.iso")), Path::new("a/b.iso.part"));
        assert_eq!(beside(Path::new("a/b.iso.part")), Path::new("a/b.iso.part.json"));
    }
}
