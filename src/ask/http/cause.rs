//! Why a request failed, in words for the operator.

use std::error::Error;

use rustls::{AlertDescription as Alert, CertificateError};

use super::tls::{is_authority, is_version_1};
use crate::config::shown_url;

/// What went wrong, in words for the operator. Of the URL, which may hold credentials, it names scheme, host and port.
pub(super) fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no connection came about in time".to_owned();
    }
    let at = error.url().map_or_else(|| "the API".to_owned(), shown_url);
    let mut innermost: Option<&(dyn Error + 'static)> = None;
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(cause) = tls_cause(error, &at) {
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
        "connection closed before message completed" if at.starts_with("http://") => {
            format!("it hung up without an answer ({text}); does it take an https:// URL on this port?")
        }
        "invalid HTTP version parsed" => {
            format!("what came back is no HTTP ({text}); does it take an https:// URL?")
        }
        _ => text,
    }
}

/// What went wrong with TLS, if this error is about it. `at` is whom it was to reach.
pub(super) fn tls_cause(error: &(dyn Error + 'static), at: &str) -> Option<String> {
    let mut error = error;
    // Errors of TLS come wrapped as those of a stream, more than once, and such a wrapper is not its source.
    while let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref()) {
        error = inner;
    }
    Some(match error.downcast_ref()? {
        rustls::Error::InvalidCertificate(wrong) => certificate_cause(wrong, at),
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(Alert::ProtocolVersion) => {
            "the API takes neither TLS 1.2 nor 1.3, expected one of them; openssl s_client -connect HOST:PORT -tls1_2 \
             shows what it takes"
                .to_owned()
        }
        rustls::Error::AlertReceived(Alert::CertificateRequired) => {
            "the API wants a client certificate (plugin_opt_tls_cert_file)".to_owned()
        }
        rustls::Error::AlertReceived(Alert::HandshakeFailure) => format!(
            "the API found nothing in common in the TLS handshake; is its key of a kind that is not taken, such as the \
             curve P-521 ({NEW_KEY}), or does it want a client certificate (plugin_opt_tls_cert_file)?"
        ),
        rustls::Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError),
        ) => format!(
            "the API does not take this side's client certificate (plugin_opt_tls_cert_file), and says {alert:?}; its own \
             is fine"
        ),
        rustls::Error::AlertReceived(alert) => {
            format!("the API broke TLS off ({alert:?}); if it wants a client certificate, not this one")
        }
        rustls::Error::InvalidMessage(_) => {
            "what came back is no TLS; does the API take an http:// URL on this port?".to_owned()
        }
        _ => return None,
    })
}

/// How to make a key that every side takes.
const NEW_KEY: &str = "one that is: openssl ecparam -name prime256v1 -genkey -noout";

/// How to issue a certificate that names its server.
const NAMED: &str = "issue it again with openssl x509 -req -sha256 -extfile FILE, where FILE says: \
                     subjectAltName=DNS:NAME (or IP:ADDRESS)";

fn certificate_cause(wrong: &CertificateError, at: &str) -> String {
    let cause = match wrong {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet; is this machine's clock right?".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "is self-signed or from an authority that is not trusted here (plugin_opt_tls_ca_file)".to_owned()
        }
        wrong if is_authority(wrong) => {
            "is an authority's, as self-signed ones often are (CA:TRUE): name this very one in \
                                         plugin_opt_tls_ca_file, or issue one that is not"
                .to_owned()
        }
        wrong if is_version_1(wrong) => format!("is of X.509 version 1, which names no server: {NAMED}"),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!("names no server (the common name does not count): {NAMED}")
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. } => {
            format!("is signed in a way that is not taken any more, such as SHA-1: {NAMED}")
        }
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "has a key, or is signed by one, that does not fit or is not taken, such as RSA of fewer than 2048 bits or \
             the curve P-521 ({NEW_KEY})"
        ),
        // Says for which names it is.
        wrong => format!("is not valid: {wrong}"),
    };
    format!("the API's certificate ({at}) {cause}")
}
