//! The plugin's C interface, in a broker of 2.1, where clients can be parked: see `support/broker.rs`.
#![no_main]

#[path = "support/broker.rs"]
mod broker;

#[path = "../../tests/support/fake_broker/exports_2_1.rs"]
mod exports_2_1;

use broker::fake_broker::{self, Version};

libfuzzer_sys::fuzz_target!(|input: &[u8]| broker::play(Version::V2_1, input));
