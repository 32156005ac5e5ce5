//! Reading text files line by line, as the broker does, with an error where it would misread a file.
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::{LocalError, Mismatch};
use crate::util::files;
use crate::util::location::{Location, file_name};

/// The most bytes of a file. 64 MiB hold some 300,000 users with their hashes.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The characters that C's `isspace` knows, which the broker trims: ASCII white space with the vertical tab.
const BLANKS: [char; 6] = [' ', '\t', '\n', '\x0b', '\x0c', '\r'];

/// Reads a text file.
///
/// # Errors
/// [`LocalError`] if the file is missing, unreadable, not a regular file, larger than 64 MiB or not UTF-8.
pub fn read(path: &Path) -> Result<String, LocalError> {
    let bytes = files::read(path, MAX_FILE_BYTES).map_err(|cause| match cause.kind() {
        ErrorKind::FileTooLarge => LocalError::TooLarge { path: path.to_owned(), limit: MAX_FILE_BYTES },
        _ => LocalError::Unreadable { path: path.to_owned(), cause },
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let location = Location::at_offset(&file_name(path), error.as_bytes(), offset);
        Mismatch::new("bytes that are not UTF-8", "UTF-8 text").at(&location)
    })
}

/// Whether every user of the machine may read the file. `false` also where its permissions cannot be read.
pub fn is_world_readable(path: &Path) -> bool {
    const READABLE_BY_OTHERS: u32 = 0o004;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & READABLE_BY_OTHERS != 0)
}

/// The lines that are neither blank nor start with `#`, each with its location and without the white space at its end,
/// such as the CR of a CRLF.
///
/// # Errors
/// The text starts with a byte order mark, which the broker would misread, or holds a NUL, at which it would stop.
pub(super) fn meaningful_lines<'t>(
    text: &'t str,
    source_name: &str,
) -> Result<impl Iterator<Item = (Location, &'t str)>, LocalError> {
    let file = source_name.into();
    if text.starts_with('\u{feff}') {
        let mismatch = Mismatch::new("a byte order mark", "UTF-8 text without one");
        return Err(mismatch.at(&Location::line(&file, 1)));
    }
    if let Some(offset) = text.find('\0') {
        let location = Location::at_offset(&file, text.as_bytes(), offset);
        return Err(Mismatch::new("a NUL character", "text").at(&location));
    }
    let lines = text.split('\n').enumerate();
    let lines = lines.map(move |(index, line)| (Location::line(&file, index + 1), trim_end(line)));
    Ok(lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')))
}

/// A text without the white space at its ends.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(BLANKS)
}

fn trim_end(text: &str) -> &str {
    text.trim_end_matches(BLANKS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::io::Write;

    fn file_with(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn a_text_file_is_read_whole() {
        let file = file_with("a\nü\r\n".as_bytes());
        assert_eq!(read(file.path()).unwrap(), "a\nü\r\n");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("passwd");
        assert_eq!(
            read(&missing).unwrap_err().to_string(),
            format!(
                "{}: cannot be read by the broker's user (No such file or directory (os error 2))",
                missing.display()
            )
        );
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("(not a regular file)"), "{error}");
        let file = file_with(b"one\ntwo \xff\n");
        assert_eq!(
            read(file.path()).unwrap_err().to_string(),
            format!("{}, line 2: found bytes that are not UTF-8, expected UTF-8 text", file.path().display())
        );
    }

    #[test]
    fn huge_files_are_left_alone() {
        let file = file_with(b"");
        file.as_file().set_len(MAX_FILE_BYTES + 1).unwrap();
        let error = read(file.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("found a file of more than 67108864 bytes, expected a smaller one"),
            "{error}"
        );
    }

    #[test]
    fn everybody_is_told_from_the_group() {
        let file = file_with(b"");
        for (mode, expected) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_world_readable(file.path()), expected, "{mode:o}");
        }
        assert!(!is_world_readable(Path::new("/nonexistent")));
    }
}
