//! Where something was written, for messages to the operator.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a text stands that the operator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// The value of an option, by what messages call it, such as `plugin_opt_user`.
    Option(Arc<str>),
    /// A line of a file.
    Line {
        /// What messages call the file, usually its path.
        file: Arc<str>,
        /// The number of the line, from 1.
        line: usize,
    },
}

impl Location {
    /// A line of a file, from 1.
    pub fn line(file: &Arc<str>, line: usize) -> Self {
        Self::Line { file: Arc::clone(file), line }
    }

    /// The line of a file in which a byte of its content stands. An offset behind the content means the last line.
    pub fn at_offset(file: &Arc<str>, content: &[u8], offset: usize) -> Self {
        let before = &content[..offset.min(content.len())];
        Self::line(file, 1 + before.iter().filter(|&&byte| byte == b'\n').count())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(called) => f.write_str(called),
            Self::Line { file, line } => write!(f, "{file}, line {line}"),
        }
    }
}

/// What messages call a file: its path, with a substitute for what is no text.
pub fn file_name(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one() {
        let file = file_name(Path::new("/etc/f"));
        for (offset, line) in [(0, 1), (1, 1), (2, 2), (3, 3), (99, 3)] {
            let location = Location::at_offset(&file, b"a\n\nb", offset);
            assert_eq!(location, Location::line(&file, line), "{offset}");
        }
        assert_eq!(Location::line(&file, 7).to_string(), "/etc/f, line 7");
        assert_eq!(Location::Option("plugin_opt_user".into()).to_string(), "plugin_opt_user");
    }
}
