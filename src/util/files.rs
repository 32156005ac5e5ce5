//! Reading the files that options name.
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The content of a regular file.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::FileTooLarge`] if it has more than `limit` bytes, which keeps a mistaken
/// path from filling the broker's memory; and another if it is no regular file: a named pipe would have the
/// broker wait for its other end.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Asked before opening, since opening is what would wait.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let expected = format!("more than {limit} bytes, expected a smaller file");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, expected));
    }
    Ok(bytes)
}
