//! Files that hold a secret, or a secret and the one from before.

use std::path::Path;

use crate::util::files;

/// Characters of a token: fewer could be guessed.
const SHORTEST_TOKEN: usize = 16;
/// Bytes of its file; more are no token.
const TOKEN_FILE: u64 = 4096;

/// The shortest secret of a shared cache, in characters: 128 bits if they are hexadecimal digits.
const SHORTEST_SECRET: usize = 32;
/// The secret that counts, and the one from before.
const MOST_SECRETS: usize = 2;
/// Bytes of their file.
const SECRETS_FILE: u64 = 64 * 1024;

/// The token of a file such as `admin_token_file` names.
///
/// # Errors
/// What is wrong with it, as it follows the file's path.
pub fn token(path: &Path) -> Result<Vec<u8>, String> {
    let text = read(path, TOKEN_FILE)?;
    let token = text.trim_ascii();
    let lines = token.split(|byte| *byte == b'\n').count();
    let found = match token.len() {
        0 => "nothing".to_owned(),
        _ if lines > 1 => format!("{lines} lines"),
        _ if !token.iter().all(u8::is_ascii_graphic) => "a blank, or what is no ASCII".to_owned(),
        length if length < SHORTEST_TOKEN => format!("{length} characters"),
        _ => return Ok(token.to_owned()),
    };
    Err(format!(
        "holds no token: found {found}; expected one line of {SHORTEST_TOKEN} or more characters of ASCII, without blanks"
    ))
}

/// The secrets of a file such as `shared_cache_secret_file` names, the one that counts first.
///
/// # Errors
/// What is wrong with it, as it follows the file's path.
pub fn shared_cache_secrets(path: &Path) -> Result<Vec<String>, String> {
    let text = String::from_utf8(read(path, SECRETS_FILE)?).map_err(|_| "is no UTF-8 text".to_owned())?;
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let wrong = match lines.len() {
        0 => Some("nothing".to_owned()),
        lines if lines > MOST_SECRETS => Some(format!("{lines} lines")),
        _ => lines.iter().find_map(|line| no_secret(line)),
    };
    if let Some(found) = wrong {
        return Err(format!(
            "holds no secret: found {found}; expected one line of {SHORTEST_SECRET} or more characters of ASCII, without blanks, \
             and below it at most one with the secret from before; make one with: openssl rand -hex 32"
        ));
    }
    Ok(lines.into_iter().map(str::to_owned).collect())
}

/// Why a line is no secret, if it is none.
fn no_secret(line: &str) -> Option<String> {
    if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("a line with a blank, or with what is no ASCII".to_owned());
    }
    (line.len() < SHORTEST_SECRET).then(|| format!("a line of {} characters", line.len()))
}

fn read(path: &Path, largest: u64) -> Result<Vec<u8>, String> {
    files::read(path, largest).map_err(|error| format!("cannot be read ({error})"))
}
