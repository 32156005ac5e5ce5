//! The body of the API's answer: it admits nobody unless it is a JSON object that does not say no, whatever stands in it.
//! What comes of it is bounded, and can be asked about any topic. The input is the body.
#![no_main]

use std::time::{Duration, Instant, SystemTime};

use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::{
    Access, Answer, Body, GrantsPool, MOST_BYTES, Now, Question, Verdict, Wanted, read_answer,
};
use serde_json::Value;

/// Room for the rules of any one answer.
const ROOM: usize = 16 << 20;

fuzz_target!(|body: &[u8]| {
    let now =
        Now { instant: Instant::now(), system: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) };
    let pool = GrantsPool::new(ROOM);
    let topic =
        Question::Access { username: "u", client_id: "c", topic: "t", access: Access::Read, more: "" };
    for question in [Question::Connect { username: "u", password: "p", more: "" }, topic] {
        let body = if body.len() > MOST_BYTES { Body::TooLong } else { Body::Whole(body.to_vec()) };
        let (answer, problem) = read_answer(&body, &question, &pool, now);
        assert!(problem.as_ref().is_none_or(|problem| problem.len() < 1_000), "{problem:?}");
        let Answer::Verdict { verdict: Verdict::Allow, terms, .. } = answer else { continue };
        assert_eq!(problem, None);
        let Body::Whole(bytes) = body else { panic!("too long, and lets in") };
        let json: Value = serde_json::from_slice(&bytes).expect("whatever lets in is JSON");
        let fields = json.as_object().expect("an object");
        let says = fields.get("result").unwrap_or(&Value::Null);
        assert!(says.is_null() || says == "allow", "{says}");
        let Some(terms) = terms else { continue };
        assert!(terms.expires.is_none_or(|expires| expires > now.instant));
        assert!(!terms.is_superuser || fields.contains_key("is_superuser"));
        for client_id in ["c", "", "a/b", "#"] {
            let Ok(Some(grants)) = terms.grants("u", client_id, &pool) else { continue };
            assert!(fields["acl"].as_array().is_some_and(|rules| rules.len() <= 1_000));
            for access in [Access::Read, Access::Write, Access::Subscribe] {
                for topic in ["t", "a/b", "#", "$SYS/x", "$share/g/t/+", ""] {
                    let _ = grants.decide(&Wanted { access, topic, qos: Some(0), retain: None });
                }
            }
        }
    }
    assert_eq!(pool.bytes(), 0, "what nobody holds takes no room");
});
