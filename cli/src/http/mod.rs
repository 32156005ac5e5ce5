//! Asking the API: with the plugin's own headers, TLS and words, but one step at a time, each with its time.

#[path = "../../../src/ask/http/cause.rs"]
mod cause;
mod exchange;
#[allow(dead_code)]
#[path = "../../../src/ask/http/hints.rs"]
mod hints;
#[allow(dead_code)]
#[path = "../../../src/ask/json.rs"]
mod json;
#[allow(dead_code)]
#[path = "../../../src/ask/http/prepare.rs"]
mod prepare;
mod reach;
#[path = "../../../src/ask/http/tls.rs"]
mod tls;
#[path = "../../../src/ask/wire.rs"]
mod wire;

use crate::question::Verdict;
pub use exchange::{Asker, Exchange, Response};
pub use reach::{Reached, Trouble, reach};

/// The verdicts in the answer to a request with so many questions, or what was found instead.
///
/// # Errors
/// What was found, without its texts.
pub fn verdicts(response: &Response, questions: usize) -> Result<Vec<Verdict>, String> {
    match response.status {
        200 => match wire::results(&response.body, questions) {
            Ok(results) => Ok(results.into_iter().map(|said| said.verdict).collect()),
            Err(found) => Err(format!("status 200 with {found}")),
        },
        status => Err(match meaning(status) {
            Some(meaning) => format!("status {status}, {meaning}"),
            None => format!("status {status}"),
        }),
    }
}

/// What a status usually means that denies, but says nothing about the client.
pub fn meaning(status: u16) -> Option<&'static str> {
    hints::meaning(status)
}

/// What the beginning of a 200's body says, if that is plainly no yes.
pub fn says_otherwise(body: &[u8]) -> Option<&'static str> {
    hints::says_otherwise(body)
}
