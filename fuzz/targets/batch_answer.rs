//! The answer to a request with many questions: whatever it is, it says yes only where a plain yes stands for that question.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::{Verdict, results};
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    for questions in 0..8 {
        let Ok(told) = results(body, questions) else { continue };
        assert_eq!(told.len(), questions);
        let answer: Value = serde_json::from_slice(body).expect("it is JSON");
        let list = answer["results"].as_array().expect("a list of results");
        assert_eq!(list.len(), questions);
        for (said, result) in told.iter().zip(list) {
            let says_yes = *result == true || *result == "allow" || result["result"] == "allow";
            assert_eq!(said.verdict == Verdict::Allow, says_yes, "{result}");
        }
    }
});
