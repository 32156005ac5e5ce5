//! What goes with every request, by the options and the files that they name: headers and TLS. Read and checked as a
//! whole.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{ClientBuilder, redirect};
use rustls::ClientConfig;

use super::tls::{self, TlsFiles};
use crate::config::{ApiUrl, Config, header_conflict, header_lines};
use crate::util::files;
use crate::util::location::{Location, file_name};

/// Headers and TLS of every request.
pub(super) struct Prepared {
    pub(super) headers: HeaderMap,
    pub(super) tls: ClientConfig,
    /// What TLS was made from.
    pub(super) tls_files: TlsFiles,
}

impl Prepared {
    /// Reads the files that the options name.
    ///
    /// # Errors
    /// The first file that cannot be used, or the reason why TLS cannot be set up.
    pub(super) fn read(config: &Config) -> Result<Self, TargetError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(config.dialect.content_type()));
        let mut configured = config.headers.clone();
        if let Some(path) = &config.header_file {
            let called = config.called("header_file");
            let text = read(called.clone(), path)?;
            let text = String::from_utf8(text)
                .map_err(|_| TargetError::File(called, path.clone(), "is no UTF-8 text".to_owned()))?;
            configured.extend(header_lines(&text).map_err(|(line, why)| {
                TargetError::NotAHeader(config.called("header_file"), path.clone(), line, why)
            })?);
            if let Some(what) = header_conflict(&configured, config.urls()) {
                return Err(TargetError::NoHeaders(config.called("header_file"), what));
            }
        }
        for (name, value) in configured {
            headers.append(name, value);
        }
        if !config.keep_alive {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let tls_files = [
            read_if_set(config.called("tls_ca_file"), config.tls_ca_file.as_deref())?,
            read_if_set(config.called("tls_cert_file"), config.tls_cert_file.as_deref())?,
            read_if_set(config.called("tls_key_file"), config.tls_key_file.as_deref())?,
        ];
        Ok(Self { headers, tls: tls::client_config(config, &tls_files)?, tls_files })
    }
}

/// Who asks.
pub(super) const USER_AGENT: &str = concat!("mosquitto-http-auth/", env!("CARGO_PKG_VERSION"));

/// What will send requests to an API, over however many connections.
pub(super) fn client(
    config: &Config,
    headers: &HeaderMap,
    tls: &ClientConfig,
    api: &ApiUrl,
) -> ClientBuilder {
    let builder = ClientBuilder::new();
    // Another plugin's dialect has its own name among the headers, or none.
    let builder = if config.dialect.is_contract() { builder.user_agent(USER_AGENT) } else { builder };
    let builder = builder
        .default_headers(headers.clone())
        .redirect(redirect::Policy::none())
        // Proxy variables in the broker's environment are not meant for the plugin.
        .no_proxy()
        .http1_only()
        .connect_timeout(config.connect_timeout)
        .tls_backend_preconfigured(tls.clone());
    match &api.socket {
        Some(socket) => builder.unix_socket(socket.as_path()),
        None => builder,
    }
}

/// Why an API cannot be asked as the options say.
#[derive(Debug)]
pub enum TargetError {
    /// A file cannot be read: the option that names it, its path, the system's error.
    Unreadable(String, PathBuf, std::io::Error),
    /// A line of the header file is no header: the option that names the file, its path, the line's number from 1, what
    /// is wrong with it if it can be said.
    NotAHeader(String, PathBuf, usize, Option<String>),
    /// The headers do not go together: the option that names their file, and why.
    NoHeaders(String, &'static str),
    /// A file does not hold what it should: the option that names it, its path, what is wrong.
    File(String, PathBuf, String),
    /// Certificate and key do not go together: the option that names the certificate, and the cause.
    NoPair(String, String),
    /// TLS cannot be set up, for example because no system roots could be loaded: the cause.
    Tls(String),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetError::Unreadable(option, path, cause) => {
                write!(f, "{option}: {} cannot be read ({cause})", path.display())
            }
            TargetError::NoHeaders(option, what) => write!(f, "{option}: {what}"),
            TargetError::NotAHeader(option, path, line, Some(what)) => {
                write!(f, "{option}: {}: {what}", Location::line(&file_name(path), *line))
            }
            TargetError::NotAHeader(option, path, line, None) => {
                let location = Location::line(&file_name(path), *line);
                write!(
                    f,
                    "{option}: {location}: expected \"Name: value\"; \
                     what was found is not shown, it may be a secret"
                )
            }
            TargetError::File(option, path, what) => {
                write!(f, "{option}: {} {what}", path.display())
            }
            TargetError::NoPair(option, cause) => {
                write!(
                    f,
                    "{option}: the certificate and the key in tls_key_file do not go together ({cause})"
                )
            }
            TargetError::Tls(cause) => write!(f, "TLS towards the API cannot be set up ({cause})"),
        }
    }
}

impl std::error::Error for TargetError {}

fn read_if_set(option: String, path: Option<&Path>) -> Result<Vec<u8>, TargetError> {
    path.map_or(Ok(Vec::new()), |path| read(option, path))
}

/// The largest file of headers, certificates or a key, in bytes: the bundle of all authorities of a system has a
/// quarter of a million.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;

fn read(option: String, path: &Path) -> Result<Vec<u8>, TargetError> {
    files::read(path, FILE_LIMIT).map_err(|cause| TargetError::Unreadable(option, path.to_owned(), cause))
}
