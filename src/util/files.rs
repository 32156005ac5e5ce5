//! Reading the files that options name.
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Reads a regular file of at most `limit` bytes, so that a mistaken path cannot fill the broker's memory.
///
/// # Errors
/// The system's errors; [`io::ErrorKind::FileTooLarge`] for more than `limit` bytes; another error for anything but a
/// regular file, since a named pipe would keep the broker waiting for its other end.
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
