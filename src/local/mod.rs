//! Users and topic rules from the operator's files, which are decided without asking the API.
//!
//! Both files have Mosquitto's own formats, so that a broker's `password_file` and `acl_file` can be used as they are.
//! A line that is not understood is an error here, also where the broker would skip it.

mod acl_file;
mod error;
mod named;
mod password;
mod secrets;
mod text;
mod users;

pub use crate::topic::Placeholders;
pub use acl_file::AclFile;
pub use error::LocalError;
pub use named::{Wrong, rules, users};
pub use password::PasswordHash;
pub use secrets::{shared_cache_secrets, token};
pub use text::{is_world_readable, read};
pub use users::Users;
