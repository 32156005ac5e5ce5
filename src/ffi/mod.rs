//! The boundary to the broker, and the only unsafe code: calls from C become typed requests, decisions become codes.

mod clients;
mod code;
mod details;
mod entry;
mod events;
mod functions;
mod guard;
mod os;
mod publish;
mod steered;
mod terminated;
#[allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    reason = "bindgen makes it of the broker's headers"
)]
mod sys {
    include!(concat!(env!("OUT_DIR"), "/broker.rs"));
}
