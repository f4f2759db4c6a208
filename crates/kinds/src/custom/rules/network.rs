//! Addresses and ranges of them in rules.

use std::net::IpAddr;

use cel::common::value::CowVal;
use cel::objects::Opaque;
use cel::{ExecutionError, Value};

use super::functions::{give, take};

/// An address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ip(pub(crate) IpAddr);

/// A range of addresses, by an address in it and the length of what they have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

impl Opaque for Ip {
    fn runtime_type_name(&self) -> &str {
        "net.IP"
    }
}

impl Opaque for Cidr {
    fn runtime_type_name(&self) -> &str {
        "net.CIDR"
    }
}

fn refuse(function: &str, why: String) -> ExecutionError {
    ExecutionError::function_error(function, why)
}

impl Ip {
    /// Neither zones nor IPv4 in IPv6 are addresses here, as in Kubernetes.
    pub(crate) fn parse(text: &str) -> Result<Ip, ExecutionError> {
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => Err(refuse(
                "ip",
                format!("IPv4-mapped IPv6 address {text:?} is not allowed"),
            )),
            Ok(address) => Ok(Ip(address)),
            Err(_) => Err(refuse("ip", format!("IP Address {text:?} parse error"))),
        }
    }

    pub(crate) fn family(self) -> i64 {
        if self.0.is_ipv4() { 4 } else { 6 }
    }

    pub(crate) fn is_link_local_unicast(self) -> bool {
        match self.0 {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
    }

    pub(crate) fn is_link_local_multicast(self) -> bool {
        match self.0 {
            IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
            IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
        }
    }

    /// As Go has it: private addresses are global as well.
    pub(crate) fn is_global_unicast(self) -> bool {
        let broadcast = matches!(self.0, IpAddr::V4(address) if address.is_broadcast());
        !broadcast
            && !self.0.is_unspecified()
            && !self.0.is_loopback()
            && !self.0.is_multicast()
            && !self.is_link_local_unicast()
    }
}

impl Cidr {
    pub(crate) fn parse(text: &str) -> Result<Cidr, ExecutionError> {
        let error = || refuse("cidr", format!("network address parse error: {text:?}"));
        let (address, length) = text.split_once('/').ok_or_else(error)?;
        let Ip(address) = Ip::parse(address).map_err(|_| error())?;
        let plain = length == "0" || (!length.starts_with('0') && length.bytes().all(|c| c.is_ascii_digit()));
        let length: u8 = length.parse().ok().filter(|_| plain).ok_or_else(error)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        match length <= most {
            true => Ok(Cidr { address, length }),
            false => Err(error()),
        }
    }

    /// The first address of the range.
    pub(crate) fn masked(self) -> Cidr {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        };
        Cidr { address, ..self }
    }

    fn contains(self, address: IpAddr) -> bool {
        let other = Cidr { address, ..self };
        address.is_ipv4() == self.address.is_ipv4() && other.masked() == self.masked()
    }
}

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn ip(args: &Args<'_, '_>, index: usize) -> Result<Ip, ExecutionError> {
    match take(args, index)? {
        Value::String(text) if index > 0 => Ip::parse(&text),
        Value::Opaque(value) => value
            .downcast_ref::<Ip>()
            .copied()
            .ok_or_else(|| no_overload("net.IP")),
        _ => Err(no_overload("net.IP")),
    }
}

fn cidr(args: &Args<'_, '_>, index: usize) -> Result<Cidr, ExecutionError> {
    match take(args, index)? {
        Value::String(text) if index > 0 => Cidr::parse(&text),
        Value::Opaque(value) => value
            .downcast_ref::<Cidr>()
            .copied()
            .ok_or_else(|| no_overload("net.CIDR")),
        _ => Err(no_overload("net.CIDR")),
    }
}

fn no_overload(expected: &str) -> ExecutionError {
    refuse(expected, "no such overload".to_owned())
}

pub(crate) fn of_ip<'b, 'v>(args: Args<'b, 'v>, make: impl Fn(Ip) -> Value) -> Outcome<'b, 'v> {
    give(make(ip(&args, 0)?))
}

pub(crate) fn of_cidr<'b, 'v>(args: Args<'b, 'v>, make: impl Fn(Cidr) -> Value) -> Outcome<'b, 'v> {
    give(make(cidr(&args, 0)?))
}

pub(crate) fn contains_ip<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    give(Value::Bool(cidr(&args, 0)?.contains(ip(&args, 1)?.0)))
}

pub(crate) fn contains_cidr<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (range, inner) = (cidr(&args, 0)?, cidr(&args, 1)?);
    let contained = range.length <= inner.length && range.contains(inner.address);
    give(Value::Bool(contained))
}

/// The text of an address or a range.
pub(crate) fn text<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    match take(&args, 0)? {
        Value::Opaque(value) => match (value.downcast_ref::<Ip>(), value.downcast_ref::<Cidr>()) {
            (Some(ip), _) => give(ip.0.to_string().into()),
            (_, Some(cidr)) => give(format!("{}/{}", cidr.address, cidr.length).into()),
            _ => Err(no_overload("string")),
        },
        _ => Err(no_overload("string")),
    }
}
