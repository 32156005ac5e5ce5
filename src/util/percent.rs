//! Percent-encoding, as forms and URLs have it.

/// Adds a text with every byte encoded but letters, digits, `-`, `.`, `_` and `~`, and with `blank` for each blank.
pub fn push_encoded(encoded: &mut String, text: &str, blank: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            b' ' => encoded.push_str(blank),
            _ => {
                encoded.push('%');
                encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
                encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_letter_is_encoded() {
        let mut text = String::new();
        push_encoded(&mut text, "aZ09-._~ /é+", "+");
        assert_eq!(text, "aZ09-._~+%2F%C3%A9%2B");
        text.clear();
        push_encoded(&mut text, "a b", "%20");
        assert_eq!(text, "a%20b");
    }
}
