//! Users and topic rules that the operator wrote down: decided without asking the API.
//!
//! Both files have Mosquitto's own formats, so that a broker's `password_file` and `acl_file` can be handed to
//! the plugin as they are. What the broker skips with a warning, or without, is an error here.
#![forbid(unsafe_code)]

mod acl_file;
mod error;
mod password;
mod text;
mod users;

pub use acl_file::{AclFile, Placeholders};
pub use error::{LocalError, Place};
pub use password::{NotAHash, PasswordHash};
pub use text::{is_world_readable, read};
pub use users::Users;
