//! What the functions of rules take and give.

use super::types::{CIDR, IP, QUANTITY, Ty};

/// The type of a call's outcome; none if no function of the name takes these arguments. A method's target is its
/// first argument.
pub(crate) fn outcome<'a>(name: &str, is_method: bool, args: &[Ty<'a>]) -> Option<Ty<'a>> {
    operator(name, args)
        .or_else(|| {
            if is_method {
                method(name, args)
            } else {
                function(name, args)
            }
        })
        .or_else(|| match (name, args) {
            ("size", [Ty::String | Ty::Bytes | Ty::List(_) | Ty::Map(..) | Ty::Dyn]) => Some(Ty::Int),
            ("matches", [a, b]) => all(&[a, b], &Ty::String, Ty::Bool),
            _ => None,
        })
}

/// Every name that [`outcome`] knows.
pub(crate) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

const NAMES: &[&str] = &[
    "size",
    "matches",
    "int",
    "uint",
    "double",
    "bool",
    "string",
    "bytes",
    "duration",
    "timestamp",
    "dyn",
    "type",
    "isIP",
    "ip",
    "ip.isCanonical",
    "isCIDR",
    "cidr",
    "isQuantity",
    "quantity",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "strings.quote",
    "contains",
    "startsWith",
    "endsWith",
    "indexOf",
    "lastIndexOf",
    "charAt",
    "lowerAscii",
    "upperAscii",
    "trim",
    "replace",
    "split",
    "substring",
    "join",
    "format",
    "find",
    "findAll",
    "isSorted",
    "sum",
    "min",
    "max",
    "family",
    "isUnspecified",
    "isLoopback",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isGlobalUnicast",
    "containsIP",
    "containsCIDR",
    "prefixLength",
    "masked",
    "isInteger",
    "asInteger",
    "asApproximateFloat",
    "sign",
    "add",
    "sub",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "hasValue",
    "value",
    "or",
    "orValue",
    "getFullYear",
    "getMonth",
    "getDayOfYear",
    "getDayOfMonth",
    "getDate",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
];

fn all<'a>(found: &[&Ty<'a>], expected: &Ty<'_>, outcome: Ty<'a>) -> Option<Ty<'a>> {
    found.iter().all(|ty| ty.fits(expected)).then_some(outcome)
}

fn operator<'a>(name: &str, args: &[Ty<'a>]) -> Option<Ty<'a>> {
    match (name, args) {
        ("_&&_" | "_||_", [a, b]) => all(&[a, b], &Ty::Bool, Ty::Bool),
        ("!_" | "@not_strictly_false", [a]) => all(&[a], &Ty::Bool, Ty::Bool),
        ("_?_:_", [test, a, b]) if test.fits(&Ty::Bool) && a.fits(b) => Some(a.clone().join(b.clone())),
        ("_==_" | "_!=_", [a, b]) if a.fits(b) => Some(Ty::Bool),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) if a.is_ordered() && b.is_ordered() => {
            (a.fits(b) || (a.is_number() && b.is_number())).then_some(Ty::Bool)
        }
        ("-_", [a @ (Ty::Int | Ty::Double | Ty::Dyn)]) => Some(a.clone()),
        ("_+_", [a, b]) => plus(a, b),
        ("_-_", [a, b]) => minus(a, b),
        ("_*_" | "_/_", [a, b]) if a.is_number() && a.fits(b) => Some(a.clone().join(b.clone())),
        ("_%_", [a @ (Ty::Int | Ty::Uint | Ty::Dyn), b]) if a.fits(b) => Some(a.clone().join(b.clone())),
        ("@in", [a, Ty::List(element)]) if a.fits(element) => Some(Ty::Bool),
        ("@in", [a, Ty::Map(key, _)]) if a.fits(key) => Some(Ty::Bool),
        ("@in", [_, Ty::Dyn]) => Some(Ty::Bool),
        ("_[_]", [a, b]) => index(a, b),
        ("_[?_]", [Ty::Optional(a), b]) => Some(Ty::optional(index(a, b)?)),
        ("_[?_]", [a, b]) => Some(Ty::optional(index(a, b)?)),
        _ => None,
    }
}

fn index<'a>(container: &Ty<'a>, by: &Ty<'a>) -> Option<Ty<'a>> {
    match container {
        Ty::List(element) if by.fits(&Ty::Int) => Some((**element).clone()),
        Ty::Map(key, value) if by.fits(key) => Some((**value).clone()),
        Ty::Dyn => Some(Ty::Dyn),
        _ => None,
    }
}

fn plus<'a>(a: &Ty<'a>, b: &Ty<'a>) -> Option<Ty<'a>> {
    Some(match (a, b) {
        (Ty::Dyn, _) | (_, Ty::Dyn) => Ty::Dyn,
        (Ty::Timestamp, Ty::Duration) | (Ty::Duration, Ty::Timestamp) => Ty::Timestamp,
        (Ty::List(_), Ty::List(_)) if a.fits(b) => a.clone().join(b.clone()),
        (Ty::Int | Ty::Uint | Ty::Double | Ty::String | Ty::Bytes | Ty::Duration, _) if a.fits(b) => {
            a.clone()
        }
        _ => return None,
    })
}

fn minus<'a>(a: &Ty<'a>, b: &Ty<'a>) -> Option<Ty<'a>> {
    Some(match (a, b) {
        (Ty::Dyn, _) | (_, Ty::Dyn) => Ty::Dyn,
        (Ty::Timestamp, Ty::Duration) => Ty::Timestamp,
        (Ty::Timestamp, Ty::Timestamp) => Ty::Duration,
        (Ty::Int | Ty::Uint | Ty::Double | Ty::Duration, _) if a.fits(b) => a.clone(),
        _ => return None,
    })
}

fn function<'a>(name: &str, args: &[Ty<'a>]) -> Option<Ty<'a>> {
    Some(match (name, args) {
        ("int", [Ty::Int | Ty::Uint | Ty::Double | Ty::String | Ty::Timestamp | Ty::Dyn]) => Ty::Int,
        ("uint", [Ty::Int | Ty::Uint | Ty::Double | Ty::String | Ty::Dyn]) => Ty::Uint,
        ("double", [Ty::Int | Ty::Uint | Ty::Double | Ty::String | Ty::Dyn]) => Ty::Double,
        ("bool", [Ty::Bool | Ty::String | Ty::Dyn]) => Ty::Bool,
        ("string", [ty]) if ty.is_ordered() || ty.fits(&IP) || ty.fits(&CIDR) => Ty::String,
        ("bytes", [Ty::String | Ty::Bytes | Ty::Dyn]) => Ty::Bytes,
        ("duration", [Ty::String | Ty::Duration | Ty::Dyn]) => Ty::Duration,
        ("timestamp", [Ty::String | Ty::Timestamp | Ty::Int | Ty::Dyn]) => Ty::Timestamp,
        ("dyn", [_]) => Ty::Dyn,
        ("type", [_]) => Ty::Type,
        ("isIP" | "ip.isCanonical" | "isCIDR" | "isQuantity", [text]) => {
            return all(&[text], &Ty::String, Ty::Bool);
        }
        ("ip", [text]) => return all(&[text], &Ty::String, IP),
        ("cidr", [text]) => return all(&[text], &Ty::String, CIDR),
        ("quantity", [text]) => return all(&[text], &Ty::String, QUANTITY),
        ("strings.quote", [text]) => return all(&[text], &Ty::String, Ty::String),
        ("sets.contains" | "sets.equivalent" | "sets.intersects", [a, b])
            if a.fits(b) && a.fits(&Ty::list(Ty::Dyn)) =>
        {
            Ty::Bool
        }
        ("optional.of" | "optional.ofNonZeroValue", [inner]) => Ty::optional(inner.clone()),
        ("optional.none", []) => Ty::optional(Ty::Dyn),
        _ => return None,
    })
}

fn method<'a>(name: &str, args: &[Ty<'a>]) -> Option<Ty<'a>> {
    let (target, rest) = args.split_first()?;
    match target {
        Ty::Dyn => {
            // What it is shows when the rule is run.
            is_known(name).then_some(Ty::Dyn)
        }
        Ty::String => of_string(name, rest),
        Ty::List(element) => of_list(name, element, rest),
        Ty::Timestamp => matches!(rest, [] | [Ty::String | Ty::Dyn])
            .then(|| is_part_of_time(name))?
            .then_some(Ty::Int),
        Ty::Duration => matches!(
            (name, rest),
            ("getHours" | "getMinutes" | "getSeconds" | "getMilliseconds", [])
        )
        .then_some(Ty::Int),
        Ty::Optional(inner) => of_optional(name, inner, rest),
        Ty::Library(_) => of_library(name, target, rest),
        _ => None,
    }
}

fn is_part_of_time(name: &str) -> bool {
    matches!(
        name,
        "getFullYear"
            | "getMonth"
            | "getDayOfYear"
            | "getDayOfMonth"
            | "getDate"
            | "getDayOfWeek"
            | "getHours"
            | "getMinutes"
            | "getSeconds"
            | "getMilliseconds"
    )
}

fn of_string<'a>(name: &str, rest: &[Ty<'a>]) -> Option<Ty<'a>> {
    let outcome = match name {
        "contains" | "startsWith" | "endsWith" => Ty::Bool,
        "indexOf" | "lastIndexOf" => Ty::Int,
        "split" | "findAll" => Ty::list(Ty::String),
        "charAt" | "lowerAscii" | "upperAscii" | "trim" | "replace" | "substring" | "format" | "find" => {
            Ty::String
        }
        _ => return None,
    };
    // Each argument: a text (s), a number (i), a list (l); those after the bar may be left out.
    let expected = match name {
        "contains" | "startsWith" | "endsWith" | "find" => "s",
        "indexOf" | "lastIndexOf" | "split" | "findAll" => "s|i",
        "charAt" => "i",
        "replace" => "ss|i",
        "substring" => "i|i",
        "format" => "l",
        _ => "",
    };
    let least = expected.find('|').unwrap_or(expected.len());
    let expected: Vec<char> = expected.chars().filter(|c| *c != '|').collect();
    let fits = (least..=expected.len()).contains(&rest.len())
        && rest.iter().zip(expected).all(|(ty, expected)| match expected {
            's' => ty.fits(&Ty::String),
            'i' => ty.fits(&Ty::Int),
            _ => ty.fits(&Ty::list(Ty::Dyn)),
        });
    fits.then_some(outcome)
}

fn of_list<'a>(name: &str, element: &Ty<'a>, rest: &[Ty<'a>]) -> Option<Ty<'a>> {
    match (name, rest) {
        ("isSorted", []) if element.is_ordered() => Some(Ty::Bool),
        ("sum", []) if element.is_number() || matches!(element, Ty::Duration) => Some(element.clone()),
        ("min" | "max", []) if element.is_ordered() => Some(element.clone()),
        ("indexOf" | "lastIndexOf", [other]) if other.fits(element) => Some(Ty::Int),
        ("join", []) => all(&[element], &Ty::String, Ty::String),
        ("join", [separator]) => all(&[element, separator], &Ty::String, Ty::String),
        _ => None,
    }
}

fn of_optional<'a>(name: &str, inner: &Ty<'a>, rest: &[Ty<'a>]) -> Option<Ty<'a>> {
    match (name, rest) {
        ("hasValue", []) => Some(Ty::Bool),
        ("value", []) => Some(inner.clone()),
        ("orValue", [other]) if other.fits(inner) => Some(inner.clone().join(other.clone())),
        ("or", [Ty::Optional(other)]) if other.fits(inner) => {
            Some(Ty::optional(inner.clone().join((**other).clone())))
        }
        _ => None,
    }
}

fn of_library<'a>(name: &str, target: &Ty<'a>, rest: &[Ty<'a>]) -> Option<Ty<'a>> {
    let Ty::Library(library) = target else { return None };
    Some(match (*library, name, rest) {
        ("net.IP", "family", []) => Ty::Int,
        (
            "net.IP",
            "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast",
            [],
        ) => Ty::Bool,
        ("net.CIDR", "containsIP", [other]) if other.fits(&IP) || other.fits(&Ty::String) => Ty::Bool,
        ("net.CIDR", "containsCIDR", [other]) if other.fits(&CIDR) || other.fits(&Ty::String) => Ty::Bool,
        ("net.CIDR", "ip", []) => IP,
        ("net.CIDR", "masked", []) => CIDR,
        ("net.CIDR", "prefixLength", []) => Ty::Int,
        ("kubernetes.Quantity", "isInteger", []) => Ty::Bool,
        ("kubernetes.Quantity", "asInteger" | "sign", []) => Ty::Int,
        ("kubernetes.Quantity", "asApproximateFloat", []) => Ty::Double,
        ("kubernetes.Quantity", "add" | "sub", [other]) if other.fits(&QUANTITY) || other.fits(&Ty::Int) => {
            QUANTITY
        }
        ("kubernetes.Quantity", "isGreaterThan" | "isLessThan", [other]) if other.fits(&QUANTITY) => Ty::Bool,
        ("kubernetes.Quantity", "compareTo", [other]) if other.fits(&QUANTITY) => Ty::Int,
        _ => return None,
    })
}
