//! Reads certificates back: is this one still what would be issued now?

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{KeyPair, PublicKeyData};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::x509::AttributeTypeAndValue;

use crate::authority::{Subject, Usage};

/// Parses the first PEM block of `text`.
pub(crate) fn pem(text: &str) -> Result<Pem, String> {
    let (_, pem) = parse_x509_pem(text.as_bytes()).map_err(|error| format!("not a PEM file ({error})"))?;
    Ok(pem)
}

/// Parses the certificate inside a PEM block.
pub(crate) fn certificate(pem: &Pem) -> Result<X509Certificate<'_>, String> {
    pem.parse_x509()
        .map_err(|error| format!("not a certificate ({error})"))
}

/// Whether `key` is the private half of the certificate's key.
pub(crate) fn belongs(certificate: &X509Certificate<'_>, key: &KeyPair) -> bool {
    certificate.public_key().raw == key.subject_public_key_info()
}

/// The end of the certificate's validity.
pub(crate) fn not_after(certificate: &X509Certificate<'_>) -> SystemTime {
    let seconds = certificate.validity().not_after.timestamp();
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Whether the certificate covers the time from `now` to `until`.
pub(crate) fn covers(certificate: &X509Certificate<'_>, now: SystemTime, until: SystemTime) -> bool {
    let starts = certificate.validity().not_before.timestamp();
    let starts = UNIX_EPOCH + Duration::from_secs(u64::try_from(starts).unwrap_or(0));
    starts <= now && until < not_after(certificate)
}

/// Whether the subject is exactly this one.
pub(crate) fn names(certificate: &X509Certificate<'_>, subject: &Subject) -> bool {
    let text =
        |attribute: &AttributeTypeAndValue<'_>| attribute.as_str().map(str::to_owned).unwrap_or_default();
    let common: Vec<_> = certificate.subject().iter_common_name().map(text).collect();
    let organisations: Vec<_> = certificate.subject().iter_organization().map(text).collect();
    common == [subject.common_name.as_str()] && organisations.iter().eq(&subject.organisation)
}

/// The subject alternative names in the form in which they are asked for.
pub(crate) fn alternative_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    let general_names = &extension.value.general_names;
    general_names.iter().filter_map(alternative_name).collect()
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// Whether the certificate may be used in this way.
pub(crate) fn allows(certificate: &X509Certificate<'_>, usage: Usage) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(extension)) => match usage {
            Usage::Server => extension.value.server_auth,
            Usage::Client => extension.value.client_auth,
        },
        _ => false,
    }
}
