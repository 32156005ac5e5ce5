//! What the API is told of a client's certificate. The broker has checked it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use ring::digest::{SHA256, digest};
use x509_cert::Certificate as Parsed;
use x509_cert::der::Decode;

use crate::broker::Details;
use crate::util::{Lock, bounded};

/// Certificates whose fields are remembered: some 5 MB with usual subjects, whose length is up to the authority that the broker
/// trusts. A topic check then costs one hash of the certificate; of a client beyond so many it is read again.
const BOUND: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The fields of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// The first common name of the subject, if it has one that is text: the one that the broker takes, too.
    pub(super) common_name: Option<String>,
    /// The subject as in RFC 4514, such as `CN=sensor-1,O=Example`.
    pub(super) subject: String,
    /// The serial number in lower-case hexadecimal digits.
    pub(super) serial: String,
    /// The SHA-256 of the whole certificate in lower-case hexadecimal digits.
    pub(super) fingerprint: String,
}

/// Reads certificates, and remembers the last ones by their SHA-256.
pub struct Certificates(Lock<LruCache<[u8; 32], Option<Arc<Certificate>>>>);

impl Default for Certificates {
    fn default() -> Self {
        Self(Lock::new(bounded(BOUND)))
    }
}

impl Certificates {
    /// The certificate of a client. `None` if it has shown none, or one that cannot be read.
    pub(super) fn of(&self, details: &dyn Details) -> Option<Arc<Certificate>> {
        let der = details.certificate()?;
        let hash: [u8; 32] = digest(&SHA256, &der).as_ref().try_into().ok()?;
        let mut known = self.0.lock();
        known.get_or_insert(hash, || read(&der, &hash).map(Arc::new)).clone()
    }
}

fn read(der: &[u8], hash: &[u8]) -> Option<Certificate> {
    let parsed = Parsed::from_der(der).ok()?;
    let certificate = parsed.tbs_certificate();
    let common_name = certificate.subject().common_name().ok().flatten();
    Some(Certificate {
        common_name: common_name.map(|name| name.value().into_owned()),
        subject: certificate.subject().to_string(),
        serial: hexadecimal(certificate.serial_number().as_bytes()),
        fingerprint: hexadecimal(hash),
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
