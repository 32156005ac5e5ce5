//! Users and topic rules that the operator wrote down: decided without asking the API.
#![forbid(unsafe_code)]
