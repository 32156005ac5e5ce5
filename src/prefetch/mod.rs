//! Asking before the broker asks. Nothing here decides anything.

pub mod packet;
pub mod peek;
pub mod subscriptions;
