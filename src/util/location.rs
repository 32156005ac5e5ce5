//! Where the operator wrote something, for messages about it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a text of the operator stands: in an option, or in a line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// The value of an option. The text is what messages call the option, such as `plugin_opt_user`.
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
    /// Line number `line` of a file; the first is 1.
    pub fn line(file: &Arc<str>, line: usize) -> Self {
        Self::Line { file: Arc::clone(file), line }
    }

    /// The line that holds the byte at `offset` in a file's content. An offset beyond the content means the last line.
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

/// The name of a file in messages: its path, with replacement characters for bytes that are not UTF-8.
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
