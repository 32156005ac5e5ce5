//! The password hashes that `mosquitto_passwd` writes.
use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use ring::{digest, pbkdf2};
use subtle::ConstantTimeEq;

use super::error::Mismatch;

/// Bytes of SHA-512's output, the longest hash in any of the formats.
const SHA512_BYTES: usize = 64;

/// Bytes of salt. Mosquitto 2.0 writes 12, and 2.1 writes 64, the most that its broker has room for; argon2 takes at
/// least 8 (RFC 9106, section 3.1).
const SALT_BYTES: RangeInclusive<usize> = 8..=64;

/// Bytes of an argon2id hash: Mosquitto writes 64, the `argon2` command 32.
const ARGON2_HASH_BYTES: RangeInclusive<usize> = 32..=64;

/// The most iterations of PBKDF2: about 1 s of computing. Mosquitto 2.0 writes 101 and 2.1 writes 1000; OWASP advises
/// 210000.
const MAX_ITERATIONS: u32 = 2_000_000;

/// The iterations of PBKDF2 from which on a check counts as slow: about 10 ms of computing.
const SLOW_ITERATIONS: u32 = 20_000;

/// The most memory of argon2id in KiB (256 MiB). Mosquitto 2.1 writes 47104.
const MAX_MEMORY_KIB: u32 = 256 * 1024;

/// The most work of argon2id: passes over memory, times KiB. 1 GiB is about 1 s of computing.
const MAX_PASSES_TIMES_KIB: u64 = 1024 * 1024;

/// Base64 with padding, as in `$6$` and `$7$`, or without, as in PHC strings.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A salted hash of a password, from a line of a password file. Two are equal only if salt and scheme are equal, too.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    scheme: Scheme,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// How password and salt become the hash.
#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    /// `$6$salt$hash`: SHA-512 over password and salt, in this order. The `$6$` of crypt(3) is another scheme.
    Sha512,
    /// `$7$iterations$salt$hash`: PBKDF2-HMAC-SHA512.
    Pbkdf2 { iterations: NonZeroU32 },
    /// `$argon2id$v=19$m=KiB,t=passes,p=lanes$salt$hash`: a PHC string.
    Argon2id(Params),
}

/// Shows the scheme but neither salt nor hash, so that no log line can hold them by accident.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            Scheme::Sha512 => "PasswordHash($6$..)",
            Scheme::Pbkdf2 { .. } => "PasswordHash($7$..)",
            Scheme::Argon2id(_) => "PasswordHash($argon2id$..)",
        })
    }
}

impl PasswordHash {
    /// Reads `$6$salt$hash`, `$7$iterations$salt$hash` or `$argon2id$v=19$m=..,t=..,p=..$salt$hash`.
    ///
    /// # Errors
    /// The text is in none of these formats, or checking a password against it would take more memory or time than
    /// a broker can spare.
    pub fn parse(text: &str) -> Result<Self, Mismatch> {
        if text.starts_with("PBKDF2$") {
            let found = "a hash of mosquitto-go-auth or mosquitto-auth-plug";
            return Err(Mismatch::new(found, HASH_FORMATS));
        }
        let Some(fields) = text.strip_prefix('$') else {
            return Err(Mismatch::new("something that is no hash", HASH_FORMATS));
        };
        let fields: Vec<&str> = fields.split('$').collect();
        match fields[..] {
            ["6", salt, hash] => Ok(Self {
                scheme: Scheme::Sha512,
                salt: decode("salt", salt, &SALT_BYTES)?,
                hash: decode("hash", hash, &(SHA512_BYTES..=SHA512_BYTES))?,
            }),
            ["7", iterations, salt, hash] => Ok(Self {
                scheme: Scheme::Pbkdf2 { iterations: parse_iterations(iterations)? },
                salt: decode("salt", salt, &SALT_BYTES)?,
                hash: decode("hash", hash, &(SHA512_BYTES..=SHA512_BYTES))?,
            }),
            ["argon2id", version, params, salt, hash] => {
                let salt = decode("salt", salt, &SALT_BYTES)?;
                let hash = decode("hash", hash, &ARGON2_HASH_BYTES)?;
                let params = parse_argon2_params(version, params, hash.len())?;
                Ok(Self { scheme: Scheme::Argon2id(params), salt, hash })
            }
            ["6", ..] => Err(Mismatch::new("a $6$ hash in another form (of crypt(3)?)", "$6$salt$hash")),
            ["7", ..] => Err(Mismatch::new("a $7$ hash in another form", "$7$iterations$salt$hash")),
            ["argon2id", ..] => Err(Mismatch::new("an argon2id hash in another form", ARGON2_FORMAT)),
            // Only known schemes are named: any other text might be part of a password.
            ["argon2i" | "argon2d", ..] => Err(Mismatch::new("another argon2 than argon2id", HASH_FORMATS)),
            ["2a" | "2b" | "2x" | "2y", ..] => Err(Mismatch::new("a bcrypt hash", HASH_FORMATS)),
            ["1" | "5" | "y" | "gy" | "apr1", ..] => Err(Mismatch::new("a hash of crypt(3)", HASH_FORMATS)),
            _ => Err(Mismatch::new("an unknown hash format", HASH_FORMATS)),
        }
    }

    /// Whether `password` is the right one. The hashes are compared in constant time.
    pub fn verify(&self, password: &[u8]) -> bool {
        let mut derived = [0; SHA512_BYTES];
        let derived = &mut derived[..self.hash.len()];
        match &self.scheme {
            Scheme::Sha512 => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(&self.salt);
                derived.copy_from_slice(context.finish().as_ref());
            }
            Scheme::Pbkdf2 { iterations } => {
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, &self.salt, password, derived);
            }
            Scheme::Argon2id(params) => {
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
                // `parse` has checked the lengths, so this fails only for want of memory.
                if argon2.hash_password_into(password, &self.salt, derived).is_err() {
                    return false;
                }
            }
        }
        (*derived).ct_eq(&self.hash).into()
    }

    /// Whether [`verify`](Self::verify) takes too long for the broker to wait for it: about 10 ms or more.
    pub fn is_slow(&self) -> bool {
        match self.scheme {
            Scheme::Sha512 => false,
            Scheme::Pbkdf2 { iterations } => iterations.get() >= SLOW_ITERATIONS,
            Scheme::Argon2id(_) => true,
        }
    }
}

const HASH_FORMATS: &str = "$6$.., $7$.. or $argon2id$.. as mosquitto_passwd writes them";
const ARGON2_FORMAT: &str = "$argon2id$v=19$m=..,t=..,p=..$salt$hash";

fn decode(what: &str, text: &str, lengths: &RangeInclusive<usize>) -> Result<Vec<u8>, Mismatch> {
    let bytes = BASE64
        .decode(text)
        .map_err(|_| Mismatch::new(format!("a {what} that is no base64"), format!("a base64 {what}")))?;
    if lengths.contains(&bytes.len()) {
        return Ok(bytes);
    }
    let expected = match (lengths.start(), lengths.end()) {
        (least, most) if least == most => format!("{least} bytes"),
        (least, most) => format!("{least} to {most} bytes"),
    };
    Err(Mismatch::new(format!("a {what} of {} bytes", bytes.len()), expected))
}

fn parse_iterations(text: &str) -> Result<NonZeroU32, Mismatch> {
    parse_decimal(text)
        .and_then(NonZeroU32::new)
        .filter(|iterations| iterations.get() <= MAX_ITERATIONS)
        .ok_or_else(|| {
            Mismatch::new(
                "a bad number of iterations",
                format!("1 to {MAX_ITERATIONS} (more would stall the broker)"),
            )
        })
}

fn parse_argon2_params(version: &str, params: &str, hash_bytes: usize) -> Result<Params, Mismatch> {
    if version != "v=19" {
        return Err(Mismatch::new("another version of argon2", "v=19"));
    }
    let malformed =
        || Mismatch::new("malformed argon2 parameters", "m=KiB,t=passes,p=lanes, m at least 8 times p");
    let fields: Vec<&str> = params.split(',').collect();
    let [memory, passes, lanes] = fields[..] else { return Err(malformed()) };
    let value = |field: &str, name| field.strip_prefix(name).and_then(parse_decimal).ok_or_else(malformed);
    let (memory, passes, lanes) = (value(memory, "m=")?, value(passes, "t=")?, value(lanes, "p=")?);
    if memory > MAX_MEMORY_KIB {
        return Err(Mismatch::new(
            format!("argon2id that takes {memory} KiB of memory"),
            format!("m of at most {MAX_MEMORY_KIB}"),
        ));
    }
    if u64::from(memory) * u64::from(passes) > MAX_PASSES_TIMES_KIB {
        return Err(Mismatch::new(
            format!("argon2id that makes {passes} passes over {memory} KiB"),
            format!("m times t of at most {MAX_PASSES_TIMES_KIB} (more would take many seconds)"),
        ));
    }
    Params::new(memory, passes, lanes, Some(hash_bytes)).map_err(|_| malformed())
}

/// Parses a number that consists of digits only; `u32::from_str` would take a `+` as well.
fn parse_decimal(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD as PADDED;
    use proptest::prelude::*;

    /// A `$6$` hash, computed independently of the code under test.
    fn sha512(password: &[u8], salt: &[u8]) -> String {
        let hash = digest::digest(&digest::SHA512, &[password, salt].concat());
        format!("$6${}${}", PADDED.encode(salt), PADDED.encode(hash))
    }

    fn hash_of(bytes: usize) -> String {
        PADDED.encode(vec![7; bytes])
    }

    #[test]
    fn the_password_is_recognised_and_no_other() {
        let hash = PasswordHash::parse(&sha512(b"secret", b"twelve bytes")).unwrap();
        assert!(hash.verify(b"secret"));
        for wrong in [&b""[..], b"secre", b"secrets", b"Secret", b"secret\0", b"\xff\xfe"] {
            assert!(!hash.verify(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn passwords_are_bytes() {
        for password in [&b""[..], b"\0", b"a\0b", b"\xff\xfe", "pä ss".as_bytes()] {
            assert!(PasswordHash::parse(&sha512(password, &[1; 64])).unwrap().verify(password));
        }
    }

    #[test]
    fn padding_may_be_missing() {
        let text = sha512(b"secret", &[1; 64]);
        assert!(PasswordHash::parse(&text.replace('=', "")).unwrap().verify(b"secret"));
    }

    #[test]
    fn slow_hashes_are_known() {
        let (salt, hash) = (hash_of(12), hash_of(64));
        for (text, slow) in [
            (format!("$6${salt}${hash}"), false),
            (format!("$7$101${salt}${hash}"), false),
            (format!("$7$19999${salt}${hash}"), false),
            (format!("$7$20000${salt}${hash}"), true),
            (format!("$argon2id$v=19$m=8,t=1,p=1${salt}${hash}"), true),
        ] {
            assert_eq!(PasswordHash::parse(&text).unwrap().is_slow(), slow, "{text}");
        }
    }

    #[test]
    fn what_is_no_hash_is_explained() {
        let (salt, hash) = (hash_of(12), hash_of(64));
        let argon2 = |params: &str| format!("$argon2id$v=19${params}${salt}${hash}");
        for (text, found) in [
            (String::new(), "something that is no hash"),
            ("secret".to_owned(), "something that is no hash"),
            ("$".to_owned(), "an unknown hash format"),
            ("$secret$of$mine".to_owned(), "an unknown hash format"),
            ("$2y$05$abcdefghijklmnopqrstuv".to_owned(), "a bcrypt hash"),
            ("$5$salt$hash".to_owned(), "a hash of crypt(3)"),
            (format!("$argon2i$v=19$m=8,t=1,p=1${salt}${hash}"), "another argon2 than argon2id"),
            (format!("$6$rounds=5000${salt}${hash}"), "a $6$ hash in another form (of crypt(3)?)"),
            (format!("$6${salt}"), "a $6$ hash in another form (of crypt(3)?)"),
            (format!("$6${salt}${hash}$"), "a $6$ hash in another form (of crypt(3)?)"),
            (format!("$6$!${hash}"), "a salt that is no base64"),
            (format!("$6${salt}$!"), "a hash that is no base64"),
            (format!("$6${salt}${hash} "), "a hash that is no base64"),
            (format!("$6${salt}${hash}:more"), "a hash that is no base64"),
            (format!("$6$${hash}"), "a salt of 0 bytes"),
            (format!("$6${}${hash}", hash_of(7)), "a salt of 7 bytes"),
            (format!("$6${}${hash}", hash_of(65)), "a salt of 65 bytes"),
            (format!("$6${salt}${}", hash_of(63)), "a hash of 63 bytes"),
            (format!("$6${salt}${}", hash_of(65)), "a hash of 65 bytes"),
            (format!("$7${salt}${hash}"), "a $7$ hash in another form"),
            (format!("$7$0${salt}${hash}"), "a bad number of iterations"),
            (format!("$7$-1${salt}${hash}"), "a bad number of iterations"),
            (format!("$7$+1${salt}${hash}"), "a bad number of iterations"),
            (format!("$7$$${salt}${hash}"), "a $7$ hash in another form"),
            (format!("$7$${salt}${hash}"), "a bad number of iterations"),
            (format!("$7$2000001${salt}${hash}"), "a bad number of iterations"),
            (format!("$7$99999999999${salt}${hash}"), "a bad number of iterations"),
            (format!("$7$101${salt}${}", hash_of(32)), "a hash of 32 bytes"),
            (format!("$argon2id$m=8,t=1,p=1${salt}${hash}"), "an argon2id hash in another form"),
            (format!("$argon2id$v=16$m=8,t=1,p=1${salt}${hash}"), "another version of argon2"),
            (format!("$argon2id$v=19$m=8,t=1,p=1${salt}${}", hash_of(16)), "a hash of 16 bytes"),
            (argon2("m=7,t=1,p=1"), "malformed argon2 parameters"),
            (argon2("m=16,t=1,p=3"), "malformed argon2 parameters"),
            (argon2("m=8,t=0,p=1"), "malformed argon2 parameters"),
            (argon2("m=8,t=1,p=0"), "malformed argon2 parameters"),
            (argon2("t=1,m=8,p=1"), "malformed argon2 parameters"),
            (argon2("m=8,t=1"), "malformed argon2 parameters"),
            (argon2("m=8,t=1,p=1,keyid=x"), "malformed argon2 parameters"),
            (argon2("m=8,t=1,p=4294967295"), "malformed argon2 parameters"),
            (argon2("m=262145,t=1,p=1"), "argon2id that takes 262145 KiB of memory"),
            (argon2("m=4294967295,t=1,p=1"), "argon2id that takes 4294967295 KiB of memory"),
            (argon2("m=262144,t=5,p=1"), "argon2id that makes 5 passes over 262144 KiB"),
            (argon2("m=8,t=4294967295,p=1"), "argon2id that makes 4294967295 passes over 8 KiB"),
        ] {
            assert_eq!(PasswordHash::parse(&text).unwrap_err().found, found, "{text}");
        }
    }

    #[test]
    fn debug_output_holds_no_hash() {
        let text = sha512(b"secret", &[1; 12]);
        assert_eq!(format!("{:?}", PasswordHash::parse(&text).unwrap()), "PasswordHash($6$..)");
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\$?(6|7|argon2id|v=19|m=8,t=1,p=1|[$0-9A-Za-z+/=,]){0,8}.{0,20}") {
            if let Err(mismatch) = PasswordHash::parse(&text) {
                prop_assert!(!mismatch.to_string().is_empty());
            }
        }
    }
}
