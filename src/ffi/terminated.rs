//! Text as the broker's functions take it.

use std::ffi::{CString, c_char};

/// A text that is longer, or as long, is copied to the heap.
const SHORT: usize = 64;

/// Calls a function with a terminated copy of a text. A short one, as client ids are, is not put on the heap for that: each
/// login of 2.1 comes here. `None` for a text with a NUL in it.
pub(super) fn terminated<R>(text: &str, call: impl FnOnce(*const c_char) -> R) -> Option<R> {
    if text.len() >= SHORT {
        return CString::new(text).ok().map(|text| call(text.as_ptr()));
    }
    let mut short = [0u8; SHORT];
    short[..text.len()].copy_from_slice(text.as_bytes());
    (!short[..text.len()].contains(&0)).then(|| call(short.as_ptr().cast()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn what_the_broker_gets_ends_where_the_text_does() {
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 65_535] {
            let text = "x".repeat(length);
            // SAFETY: terminated, and not used beyond the call.
            let copy = terminated(&text, |copy| unsafe { CStr::from_ptr(copy) }.to_owned());
            assert_eq!(copy.unwrap().to_str(), Ok(&*text));
            assert_eq!(terminated(&(text + "\0"), |_| ()), None);
        }
    }
}
