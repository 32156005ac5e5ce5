//! Why a request failed, in words for the operator.

use std::error::Error;

use rustls::{AlertDescription, CertificateError};

/// What went wrong, in words for the operator. It never names the URL, which may hold credentials.
pub(super) fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no connection came about in time".to_owned();
    }
    let mut innermost: Option<&(dyn Error + 'static)> = None;
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(cause) = tls_cause(error) {
            return cause;
        }
        innermost = Some(error);
        next = error.source();
    }
    let text = innermost.map_or_else(|| "the request failed".to_owned(), ToString::to_string);
    match text.as_str() {
        // How the libraries put it when one side talks TLS and the other does not.
        "tls handshake eof" => {
            "the API hung up in the TLS handshake; does it speak TLS on this port?".to_owned()
        }
        "invalid HTTP version parsed" => {
            format!("what came back is no HTTP ({text}); does it take an https:// URL?")
        }
        _ => text,
    }
}

/// What went wrong with TLS, if this error is about it.
fn tls_cause(error: &(dyn Error + 'static)) -> Option<String> {
    let mut error = error;
    // Errors of TLS come wrapped as those of a stream, more than once, and such a wrapper is not its source.
    while let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref()) {
        error = inner;
    }
    Some(match error.downcast_ref()? {
        rustls::Error::InvalidCertificate(wrong) => certificate_cause(wrong),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the API wants a client certificate (plugin_opt_tls_cert_file)".to_owned()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("the API broke TLS off ({alert:?}); if it wants a client certificate, not this one")
        }
        rustls::Error::InvalidMessage(_) => {
            "what came back is no TLS; does the API take an http:// URL on this port?".to_owned()
        }
        _ => return None,
    })
}

fn certificate_cause(wrong: &CertificateError) -> String {
    let cause = match wrong {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet; is this machine's clock right?"
        }
        CertificateError::UnknownIssuer => {
            "is self-signed or from an authority that is not trusted here (plugin_opt_tls_ca_file)"
        }
        // The reason is a type of a library below the TLS library's.
        wrong if format!("{wrong:?}").contains("CaUsedAsEndEntity") => {
            "is an authority's, as self-signed ones often are (CA:TRUE): a server needs one of its own"
        }
        // Says for which names it is.
        wrong => return format!("the API's certificate is not valid: {wrong}"),
    };
    format!("the API's certificate {cause}")
}
