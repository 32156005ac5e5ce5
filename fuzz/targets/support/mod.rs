//! Common parts of several targets, each of which uses some of them.
#![allow(dead_code)]

pub mod config;
pub mod matcher;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};

/// A file in memory, which is on no disk.
pub struct MemoryFile {
    _file: File,
    path: String,
}

impl MemoryFile {
    /// A file with this content.
    pub fn with(content: &[u8]) -> Self {
        // SAFETY: a terminated name.
        let fd = unsafe { libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0, "no file in memory: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor was just made, and nothing else owns it.
        let mut file = unsafe { File::from_raw_fd(fd) };
        file.write_all(content).expect("there is room for a small file");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Self { _file: file, path }
    }

    /// A path by which this process can open the file.
    pub fn path(&self) -> &str {
        &self.path
    }
}
