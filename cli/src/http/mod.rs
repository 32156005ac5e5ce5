//! Asking the API: with the plugin's own headers, TLS and words, but one step at a time, each with its time.

#[allow(dead_code, reason = "the program uses a part of what the plugin has")]
#[path = "../../../src/ask/answer.rs"]
mod answer;
#[path = "../../../src/ask/http/cause.rs"]
mod cause;
#[allow(dead_code, reason = "the program uses a part of what the plugin has")]
#[path = "../../../src/ask/dialect.rs"]
mod dialect;
mod exchange;
#[allow(dead_code, reason = "the program uses a part of what the plugin has")]
#[path = "../../../src/ask/http/hints.rs"]
mod hints;
#[allow(dead_code, reason = "the program uses a part of what the plugin has")]
#[path = "../../../src/ask/json.rs"]
mod json;
#[allow(dead_code, reason = "the program uses a part of what the plugin has")]
#[path = "../../../src/ask/http/prepare.rs"]
mod prepare;
mod reach;
#[path = "../../../src/ask/http/target_error.rs"]
mod target_error;
#[path = "../../../src/ask/http/tls.rs"]
mod tls;
#[path = "../../../src/ask/wire.rs"]
mod wire;

use reqwest::header::{CONTENT_TYPE, HeaderValue};

use crate::config::Config;
use crate::question::{Answer, Question, Verdict};
use crate::topic::GrantsPool;
use answer::{Body, Now};
pub use dialect::name;
pub use exchange::{Asker, Exchange, Response};
pub use reach::{Reached, Trouble, reach};

/// What a response answers: by its status, and by its body where that is a part of the answer (`answer_rules`). And what is
/// wrong with the body, if that is why it denies.
pub fn answer(response: &Response, question: &Question<'_>, config: &Config) -> (Answer, Option<String>) {
    let Response { status, ref headers, ref body, .. } = *response;
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let body = match body.len() {
        0..=answer::MOST_BYTES => Body::Whole(body.clone()),
        _ => Body::TooLong,
    };
    if !(config.answer_rules && answer::is_read(status, content_type)) {
        return (dialect::answer(&config.dialect, status, Some(&body)), None);
    }
    answer::read(&body, question, &GrantsPool::new(usize::MAX), Now::read())
}

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
