//! The plugin's C interface, in a broker of 2.0: see `support/broker.rs`.
#![no_main]

#[path = "support/broker.rs"]
mod broker;

use broker::fake_broker::Version;

libfuzzer_sys::fuzz_target!(|input: &[u8]| broker::play(Version::V2_0, input));
