//! Local users are decided without the API, by files that mean the same to the plugin as to the broker.

mod certificates;
mod files;
mod rules;
#[path = "../support/mod.rs"]
mod support;
mod tables;

use support::{Client, fence, local_user};

/// A password file in which everybody has the password of the local users, in the one format that every broker reads by
/// itself.
fn password_file(names: &[&str]) -> String {
    // Behind a space, because a name may start with `#`, but a line then would be a comment.
    names.iter().map(|name| format!(" {}\n", local_user(name))).collect()
}

/// Whether a message came.
fn arrived(client: &mut Client, topic: &str) -> bool {
    fence::received(client).iter().any(|message| message.topic == topic)
}
