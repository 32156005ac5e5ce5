//! The memory of remembered verdicts.

use std::time::{Duration, Instant};

use mosquitto_http_auth::internals::{
    About, Access, Cache, Fingerprinter, Fresh, Grounds, Question, Verdict,
};

use crate::Bench;
use crate::support::allocator;
use crate::table::Table;

const SIZES: [usize; 2] = [100_000, 1_000_000];

/// Measures a full cache by itself. The result is the same each time, so one round is enough.
pub fn per_verdict(_: &Bench) -> Table {
    let mut table = Table::new(
        "Memory for remembered verdicts",
        "A cache filled with topic verdicts up to its `cache_size`, its index included. Counted is what the \
         allocator sets aside, with its own overhead, not what is asked of it.",
        &[],
        &["bytes a verdict", "MB"],
    );
    for size in SIZES {
        let before = allocator::bytes_in_use();
        let cache = filled(size);
        let bytes = (allocator::bytes_in_use() - before) as f64;
        assert_eq!(cache.len(), size, "no verdict is lost");
        table.add("cache", &format!("`cache_size {size}`"), &[bytes / size as f64, bytes / 1e6]);
    }
    table
}

fn filled(size: usize) -> Cache {
    let now = Instant::now();
    let keys = Fingerprinter::with_key(b"0123456789abcdef");
    let mut cache = Cache::new(size, Duration::ZERO, now);
    for number in 0..size {
        let (client_id, topic) = (format!("client-{number}"), format!("sensors/{number}/value"));
        let (username, client_id, topic) = ("device", &*client_id, &*topic);
        let question = Question::Access { username, client_id, topic, access: Access::Read, more: "" };
        let lifetime = Duration::from_secs(3600);
        let fresh = Fresh {
            verdict: Verdict::Allow,
            grounds: Grounds::Status(200),
            since: now,
            lifetime,
            about: About::default(),
        };
        cache.insert(keys.question(&question), keys.client(&question), fresh);
    }
    cache
}
