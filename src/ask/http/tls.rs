//! TLS towards the API: whom to trust, what to show, and what is wrong with the files that say so.
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::target_error::TargetError;
use crate::config::Config;

/// The contents of the files of authorities, the client certificate and its key; empty where none is set.
pub(super) type TlsFiles = [Vec<u8>; 3];

/// What the options say about TLS, checked. The system's authorities are read only if a URL needs them.
pub(super) fn client_config(config: &Config, files: &TlsFiles) -> Result<ClientConfig, TargetError> {
    let [authorities, certificate, key] = files;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TargetError::Tls(error.to_string()))?;
    let named = match &config.tls_ca_file {
        Some(path) => Some(certificates(config, "tls_ca_file", path, authorities)?),
        None => None,
    };
    let needs_tls = config.needs_tls();
    let builder = if config.tls_insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else if let Some((path, named)) = config.tls_ca_file.as_ref().zip(named) {
        let verifier = Named::new(named, provider)
            .map_err(|what| TargetError::File(config.called("tls_ca_file"), path.clone(), what))?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    } else if needs_tls {
        builder.with_root_certificates(of_the_system()?)
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    let mut tls = match (&config.tls_cert_file, &config.tls_key_file) {
        (Some(certificate_path), Some(key_path)) => {
            let chain = certificates(config, "tls_cert_file", certificate_path, certificate)?;
            let wrong = |what| TargetError::File(config.called("tls_key_file"), key_path.clone(), what);
            if let Some(what) = mistake(key, key_path, Holds::Key) {
                return Err(wrong(what));
            }
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|error| wrong(format!("expected a PEM private key ({error})")))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                Error::InconsistentKeys(_) => {
                    TargetError::NoPair(config.called("tls_cert_file"), error.to_string())
                }
                Error::InvalidCertificate(cause) => {
                    let what = if is_version_1(&cause) {
                        "is of X.509 version 1, made without extensions; issue it again with openssl x509 -req \
                         -extfile FILE, where FILE says: basicConstraints=CA:FALSE"
                            .to_owned()
                    } else {
                        format!("is no certificate that can be shown ({cause})")
                    };
                    TargetError::File(config.called("tls_cert_file"), certificate_path.clone(), what)
                }
                error => wrong(format!(
                    "holds a key that cannot be used, such as RSA of fewer than 2048 bits or one of the curve P-521 \
                     ({error}); make one with: openssl ecparam -name prime256v1 -genkey -noout -out {}, and a \
                     certificate for it",
                    key_path.display()
                )),
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// Whether this is said of a certificate of X.509 version 1. The reason is a type of a library below the TLS library's.
pub(super) fn is_version_1(cause: &CertificateError) -> bool {
    format!("{cause:?}").contains("UnsupportedCertVersion")
}

fn of_the_system() -> Result<RootCertStore, TargetError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let errors = if errors.is_empty() { "there are none".to_owned() } else { errors.join("; ") };
        return Err(TargetError::Tls(format!(
            "no certificate authorities of the system can be read: {errors}; the package ca-certificates has them"
        )));
    }
    Ok(roots)
}

/// The certificates in a file, or what is wrong with it.
fn certificates(
    config: &Config,
    option: &'static str,
    path: &Path,
    content: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TargetError> {
    let wrong = |what| TargetError::File(config.called(option), path.to_owned(), what);
    match mistake(content, path, Holds::Certificates) {
        Some(what) => Err(wrong(what)),
        None => CertificateDer::pem_slice_iter(content)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(format!("expected PEM certificates ({error})"))),
    }
}

/// What a file should hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Certificates,
    Key,
}

/// What is wrong with the form of a PEM file, if anything is, and the command that mends it.
fn mistake(content: &[u8], path: &Path, holds: Holds) -> Option<String> {
    let path = path.display();
    if content.starts_with(b"\xef\xbb\xbf") {
        return Some(format!(
            "begins with a byte order mark, as editors on Windows write it; mend it with: sed -i '1s/^\\xEF\\xBB\\xBF//' \
             {path}"
        ));
    }
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Some(format!(
            "is UTF-16 text, as editors on Windows write it; mend it with: iconv -f UTF-16 -t UTF-8 {path} > {path}.pem"
        ));
    }
    if content.first() == Some(&0x30) {
        let is_pkcs_12 = content.get(4..7) == Some(&[2, 1, 3]);
        let command = match (is_pkcs_12, holds) {
            (true, Holds::Certificates) => "pkcs12 -nokeys",
            (true, Holds::Key) => "pkcs12 -nocerts -nodes",
            (false, Holds::Certificates) => "x509 -inform DER",
            (false, Holds::Key) => "pkey -inform DER",
        };
        let form = if is_pkcs_12 { "PKCS #12" } else { "DER" };
        return Some(format!(
            "is {form}, expected PEM; mend it with: openssl {command} -in {path} -out {path}.pem"
        ));
    }
    let text = String::from_utf8_lossy(content);
    let labels: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .collect();
    let is_encrypted = labels.contains(&"ENCRYPTED PRIVATE KEY") || text.contains("\nProc-Type: 4,ENCRYPTED");
    let (is_wanted, wanted): (fn(&str) -> bool, _) = match holds {
        Holds::Key if is_encrypted => {
            return Some(format!(
                "holds a key that is encrypted, and nobody is there to type its password; mend it with: openssl pkey \
                 -in {path} -out {path}.open (and chmod 640)"
            ));
        }
        Holds::Key => (|label| label.ends_with("PRIVATE KEY"), "PRIVATE KEY"),
        Holds::Certificates => (|label| label == "CERTIFICATE", "CERTIFICATE"),
    };
    if labels.iter().any(|label| is_wanted(label)) {
        return None;
    }
    let mut found = labels.iter().map(|label| format!("{:?}", format!("BEGIN {label}")));
    let found = found.next().unwrap_or_else(|| "no line that begins with -----BEGIN".to_owned());
    Some(format!("expected PEM with -----BEGIN {wanted}-----, found {found}"))
}

/// Trusts the authorities in a file, and the very certificates in it.
#[derive(Debug)]
struct Named {
    by_authority: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl Named {
    fn new(named: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in named.iter().enumerate() {
            roots
                .add(certificate.clone())
                .map_err(|error| format!("certificate {} in it cannot be used ({error})", index + 1))?;
        }
        let by_authority = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| format!("cannot be used ({error})"))?;
        Ok(Self { by_authority, named })
    }
}

impl ServerCertVerifier for Named {
    /// A certificate that is in the file itself, byte for byte, needs nobody to vouch for it, and may be an authority's:
    /// so is one that `openssl req -x509` makes for a server. Its dates were looked at before that, and its name still
    /// counts.
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.by_authority.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(cause))
                if self.named.contains(certificate) && is_about_who_vouches(&cause) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// Whether a certificate was refused for what only matters where somebody else vouches for it. All of these are found
/// after its dates have been looked at.
fn is_about_who_vouches(cause: &CertificateError) -> bool {
    matches!(
        cause,
        CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    ) || is_authority(cause)
}

/// Whether a certificate was refused since it is that of an authority.
pub(super) fn is_authority(cause: &CertificateError) -> bool {
    format!("{cause:?}").contains("CaUsedAsEndEntity")
}

/// Takes any certificate (`tls_insecure`).
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
