//! What goes with every request, by the options and the files that they name: headers and TLS. Read and checked as a
//! whole.

use std::path::Path;

use reqwest::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{ClientBuilder, redirect};
use rustls::ClientConfig;

use super::target_error::TargetError;
use super::tls::{self, TlsFiles};
use crate::config::{ApiUrl, Config, header_conflict, header_lines};
use crate::util::files;

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

fn read_if_set(option: String, path: Option<&Path>) -> Result<Vec<u8>, TargetError> {
    path.map_or(Ok(Vec::new()), |path| read(option, path))
}

/// The largest file of headers, certificates or a key, in bytes: the bundle of all authorities of a system has a
/// quarter of a million.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;

fn read(option: String, path: &Path) -> Result<Vec<u8>, TargetError> {
    files::read(path, FILE_LIMIT).map_err(|cause| TargetError::Unreadable(option, path.to_owned(), cause))
}
