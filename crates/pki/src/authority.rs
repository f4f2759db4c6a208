//! The authority itself: made once, loaded ever after, signs everything else.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};

use crate::files::{self, KeyPairPem};
use crate::{Error, inspect};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3652 * DAY.as_secs());
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * DAY.as_secs());
/// A pair with less than this left is issued anew.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY.as_secs());
/// Certificates start in the past, for clocks that are stepped or differ a little.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
const NAME: &str = "ca";

/// Whom a certificate speaks for: in Kubernetes a user and the user's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The common name, which is the user's name.
    pub common_name: String,
    /// The organisation, which is the user's group.
    pub organisation: Option<String>,
}

impl Subject {
    /// A subject without a group, such as a server.
    #[must_use]
    pub fn new(common_name: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organisation: None,
        }
    }

    /// A member of a group, such as `system:masters` or `system:nodes`.
    #[must_use]
    pub fn in_group(common_name: &str, organisation: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organisation: Some(organisation.to_owned()),
        }
    }
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Server,
    Client,
}

/// The cluster's certificate authority.
#[derive(Debug)]
pub struct Authority {
    cert_pem: String,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Loads `ca.crt` and `ca.key` from a directory, or makes them when neither is there.
    ///
    /// A key without its certificate is signed anew: what it issued before stays valid.
    ///
    /// # Errors
    /// When the files cannot be read or written, or are there and unusable; an authority is
    /// never replaced silently, because every certificate and kubeconfig depends on it.
    pub fn load_or_create(dir: &Path) -> Result<Self, Error> {
        let key_path = files::key_path(dir, NAME);
        let cert = files::read_if_present(&files::cert_path(dir, NAME))?;
        let key = files::read_if_present(&key_path)?;
        match (cert, key) {
            (Some(cert), Some(key)) => Self::load(dir, KeyPairPem { cert, key }),
            (Some(_), None) => Err(Error::MissingAuthorityKey { path: key_path }),
            (None, Some(key)) => {
                let key = KeyPair::from_pem(&key).map_err(|error| broken(&key_path, error))?;
                Self::create(dir, key)
            }
            (None, None) => Self::create(dir, generate_key(NAME)?),
        }
    }

    fn create(dir: &Path, key: KeyPair) -> Result<Self, Error> {
        let now = SystemTime::now();
        let not_after = now + AUTHORITY_LIFETIME;
        let mut params = base_params(&Subject::new("ripstop cluster authority"));
        params.not_before = (now - BACKDATE).into();
        params.not_after = not_after.into();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let cert = params
            .self_signed(&key)
            .map_err(|error| issue_error(NAME, error))?;
        let pair = KeyPairPem {
            cert: cert.pem(),
            key: key.serialize_pem(),
        };
        pair.write(dir, NAME)?;
        Ok(Self {
            cert_pem: pair.cert,
            not_after,
            issuer: Issuer::new(params, key),
        })
    }

    fn load(dir: &Path, pair: KeyPairPem) -> Result<Self, Error> {
        let cert_path = files::cert_path(dir, NAME);
        let key_path = files::key_path(dir, NAME);
        let key = KeyPair::from_pem(&pair.key).map_err(|error| broken(&key_path, error))?;
        let not_after = check_authority(&pair.cert, &key, SystemTime::now())
            .map_err(|reason| broken(&cert_path, reason))?;
        let issuer = Issuer::from_ca_cert_pem(&pair.cert, key).map_err(|error| broken(&cert_path, error))?;
        Ok(Self {
            cert_pem: pair.cert,
            not_after,
            issuer,
        })
    }

    /// The authority's certificate, for clients to trust.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Issues a server certificate for the given DNS names and IP addresses.
    ///
    /// # Errors
    /// When a name can stand in no certificate.
    pub fn issue_server(&self, subject: &Subject, sans: &[String]) -> Result<KeyPairPem, Error> {
        self.issue(subject, sans, Usage::Server)
    }

    /// Issues a client certificate: the subject is the user.
    ///
    /// # Errors
    /// When the subject can stand in no certificate.
    pub fn issue_client(&self, subject: &Subject) -> Result<KeyPairPem, Error> {
        self.issue(subject, &[], Usage::Client)
    }

    /// The server certificate `NAME.crt` with `NAME.key`: the pair on disk while it is good,
    /// else a new one, written in its place.
    ///
    /// # Errors
    /// When a name can stand in no certificate, or a file cannot be read or written.
    pub fn ensure_server(
        &self,
        dir: &Path,
        name: &str,
        subject: &Subject,
        sans: &[String],
    ) -> Result<KeyPairPem, Error> {
        self.ensure(dir, name, subject, sans, Usage::Server)
    }

    /// The client certificate `NAME.crt` with `NAME.key`: the pair on disk while it is good,
    /// else a new one, written in its place.
    ///
    /// # Errors
    /// When the subject can stand in no certificate, or a file cannot be read or written.
    pub fn ensure_client(&self, dir: &Path, name: &str, subject: &Subject) -> Result<KeyPairPem, Error> {
        self.ensure(dir, name, subject, &[], Usage::Client)
    }

    fn ensure(
        &self,
        dir: &Path,
        name: &str,
        subject: &Subject,
        sans: &[String],
        usage: Usage,
    ) -> Result<KeyPairPem, Error> {
        if let Some(pair) = KeyPairPem::read(dir, name)?
            && self.still_good(&pair, subject, sans, usage, SystemTime::now())
        {
            return Ok(pair);
        }
        let pair = self.issue(subject, sans, usage)?;
        pair.write(dir, name)?;
        Ok(pair)
    }

    fn issue(&self, subject: &Subject, sans: &[String], usage: Usage) -> Result<KeyPairPem, Error> {
        let now = SystemTime::now();
        let mut params = base_params(subject);
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + LEAF_LIFETIME).min(self.not_after).into();
        params.subject_alt_names = sans.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        // Enough for ECDSA in every version of TLS; keyEncipherment is for RSA key exchange.
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let key = generate_key(&subject.common_name)?;
        let cert = params
            .signed_by(&key, &self.issuer)
            .map_err(|error| issue_error(&subject.common_name, error))?;
        Ok(KeyPairPem {
            cert: cert.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Whether a pair is still what would be issued now, with time to spare.
    fn still_good(
        &self,
        pair: &KeyPairPem,
        subject: &Subject,
        sans: &[String],
        usage: Usage,
        now: SystemTime,
    ) -> bool {
        let (Ok(pem), Ok(authority)) = (inspect::pem(&pair.cert), inspect::pem(&self.cert_pem)) else {
            return false;
        };
        let (Ok(cert), Ok(authority), Ok(key)) = (
            inspect::certificate(&pem),
            inspect::certificate(&authority),
            KeyPair::from_pem(&pair.key),
        ) else {
            return false;
        };
        // In the authority's own last days there is nothing longer to be had.
        let until = (now + RENEW_BEFORE).min(self.not_after - Duration::from_secs(1));
        inspect::belongs(&cert, &key)
            && inspect::covers(&cert, now, until)
            && inspect::names(&cert, subject)
            && inspect::allows(&cert, usage)
            && inspect::alternative_names(&cert) == canonical_names(sans)
            && cert.verify_signature(Some(authority.public_key())).is_ok()
    }
}

/// Checks an authority that was found on disk and says how long it lasts.
fn check_authority(cert: &str, key: &KeyPair, now: SystemTime) -> Result<SystemTime, String> {
    let pem = inspect::pem(cert)?;
    let cert = inspect::certificate(&pem)?;
    if !cert.is_ca() {
        return Err("it is not marked as an authority".to_owned());
    }
    if !inspect::belongs(&cert, key) {
        return Err("ca.key is the key of another certificate".to_owned());
    }
    if !inspect::covers(&cert, now, now) {
        return Err(format!(
            "it is valid from {} to {}, and not now",
            cert.validity().not_before,
            cert.validity().not_after
        ));
    }
    Ok(inspect::not_after(&cert))
}

fn base_params(subject: &Subject) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    if let Some(organisation) = &subject.organisation {
        name.push(DnType::OrganizationName, organisation.as_str());
    }
    name.push(DnType::CommonName, subject.common_name.as_str());
    params.distinguished_name = name;
    params.serial_number = Some(random_serial());
    params
}

/// 126 random bits; the two leading bits are fixed so that the number is positive and never
/// shorter than 16 bytes.
fn random_serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

pub(crate) fn generate_key(common_name: &str) -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| issue_error(common_name, error))
}

fn san(name: &str) -> Result<SanType, Error> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || Error::BadName {
        name: name.to_owned(),
    };
    if !is_dns_name(name) {
        return Err(bad());
    }
    Ok(SanType::DnsName(name.try_into().map_err(|_| bad())?))
}

/// RFC 1123 labels, with `*` allowed as the first.
fn is_dns_name(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 253 && rest.split('.').all(label)
}

/// Names as they are read back: addresses have one spelling.
fn canonical_names(sans: &[String]) -> BTreeSet<String> {
    let canonical = |name: &String| match name.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => name.clone(),
    };
    sans.iter().map(canonical).collect()
}

fn broken(path: &Path, reason: impl ToString) -> Error {
    Error::BrokenAuthority {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn issue_error(common_name: &str, error: rcgen::Error) -> Error {
    Error::Issue {
        common_name: common_name.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
