//! Groups of options that one part of the plugin takes as a whole.

use std::time::Duration;

/// When to leave an API alone that gives no answers, and how to find out that it is back (`breaker_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Questions without an answer among the recent ones that it takes at least; 0: never opens.
    pub after: usize,
    /// The share of the recent ones that they must make up, in percent.
    pub percent: usize,
    /// The pause before the first probe; each probe in vain doubles it.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
}

/// When to slow down those who try wrong passwords (`throttle_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Refusals before the first pause; 0: nobody is throttled.
    pub after: usize,
    /// The first pause; each further refusal doubles it.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// Whose refusals are counted together.
    pub count_by: CountBy,
}

/// Whose refusals are counted together (`throttle_by`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountBy {
    /// An address and a username.
    AddressAndUsername,
    /// An address, whatever name it tries.
    Address,
}
