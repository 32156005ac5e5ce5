//! Users and topic rules that the operator wrote down: decided without asking the API.
//!
//! Both files have Mosquitto's own formats, so that a broker's `password_file` and `acl_file` can be handed to
//! the plugin as they are. Where the broker skips a line that it does not understand, this is an error.
mod acl_file;
mod error;
mod password;
mod text;
mod users;

pub use crate::topic::Placeholders;
pub use acl_file::AclFile;
pub use error::LocalError;
pub use password::PasswordHash;
pub use text::{is_world_readable, read};
pub use users::Users;
