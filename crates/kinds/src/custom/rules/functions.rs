//! The functions that Kubernetes adds to the language: lists, regular expressions, sets, addresses, quantities.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use cel::common::types::{DYN_TYPE, INT_TYPE, LIST_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError, Value};
use regex::Regex;

use super::network::{self, Cidr, Ip};
use super::{amounts, meter};
use crate::custom::expression;

/// Every function that rules have.
pub(crate) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    let added = cel::extensions::strings(&mut environment).and_then(|()| add(&mut environment));
    // Names and types are those below.
    added.expect("no two functions have the same name and arguments");
    Arc::new(environment)
});

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn add(environment: &mut Env) -> Result<(), cel::DeclarationError> {
    environment.add_overload(
        meter::SPEND,
        meter::SPEND,
        vec![DYN_TYPE, INT_TYPE],
        meter::spend_call,
    )?;
    let texts = || vec![STRING_TYPE, STRING_TYPE];
    environment.add_overload(meter::MATCHES, meter::MATCHES, texts(), matches)?;
    let mut method =
        |name: &str, target: Type, args: Vec<Type>, function: cel::common::functions::Function| {
            let id = format!("kubernetes_{name}_{}_{}", target.name(), args.len());
            environment.add_member_overload(name, &id, target, args, function)
        };
    method("isSorted", LIST_TYPE, vec![], |args| {
        each(args, |list| Ok(Value::Bool(is_sorted(list)?)))
    })?;
    method("sum", LIST_TYPE, vec![], |args| each(args, sum))?;
    method("min", LIST_TYPE, vec![], |args| {
        each(args, |list| extreme(list, Ordering::Less, "min"))
    })?;
    method("max", LIST_TYPE, vec![], |args| {
        each(args, |list| extreme(list, Ordering::Greater, "max"))
    })?;
    method("indexOf", LIST_TYPE, vec![DYN_TYPE], |args| {
        index(args, |list, other| {
            list.iter().position(|element| element == other)
        })
    })?;
    method("lastIndexOf", LIST_TYPE, vec![DYN_TYPE], |args| {
        index(args, |list, other| {
            list.iter().rposition(|element| element == other)
        })
    })?;
    method("find", STRING_TYPE, vec![STRING_TYPE], find)?;
    method("findAll", STRING_TYPE, vec![STRING_TYPE], find_all)?;
    method("findAll", STRING_TYPE, vec![STRING_TYPE, INT_TYPE], find_all)?;
    for name in [
        "family",
        "isUnspecified",
        "isLoopback",
        "isLinkLocalMulticast",
        "isLinkLocalUnicast",
    ] {
        let function: cel::common::functions::Function = match name {
            "family" => |args| network::of_ip(args, |ip| Value::Int(ip.family())),
            "isUnspecified" => |args| network::of_ip(args, |ip| Value::Bool(ip.0.is_unspecified())),
            "isLoopback" => |args| network::of_ip(args, |ip| Value::Bool(ip.0.is_loopback())),
            "isLinkLocalMulticast" => {
                |args| network::of_ip(args, |ip| Value::Bool(ip.is_link_local_multicast()))
            }
            _ => |args| network::of_ip(args, |ip| Value::Bool(ip.is_link_local_unicast())),
        };
        method(name, DYN_TYPE, vec![], function)?;
    }
    method("isGlobalUnicast", DYN_TYPE, vec![], |args| {
        network::of_ip(args, |ip| Value::Bool(ip.is_global_unicast()))
    })?;
    method("containsIP", DYN_TYPE, vec![DYN_TYPE], network::contains_ip)?;
    method("containsCIDR", DYN_TYPE, vec![DYN_TYPE], network::contains_cidr)?;
    method("prefixLength", DYN_TYPE, vec![], |args| {
        network::of_cidr(args, |cidr| Value::Int(i64::from(cidr.length)))
    })?;
    method("ip", DYN_TYPE, vec![], |args| {
        network::of_cidr(args, |cidr| opaque(Ip(cidr.address)))
    })?;
    method("masked", DYN_TYPE, vec![], |args| {
        network::of_cidr(args, |cidr| opaque(cidr.masked()))
    })?;
    amounts::add(&mut method)?;
    let mut function = |name: &str, args: Vec<Type>, function: cel::common::functions::Function| {
        environment.add_overload(name, &format!("kubernetes_{name}"), args, function)
    };
    function("string", vec![DYN_TYPE], network::text)?;
    function("isIP", vec![STRING_TYPE], |args| {
        of_text(args, |text| Ok(Value::Bool(Ip::parse(text).is_ok())))
    })?;
    function("ip", vec![STRING_TYPE], |args| {
        of_text(args, |text| Ok(opaque(Ip::parse(text)?)))
    })?;
    function("ip.isCanonical", vec![STRING_TYPE], |args| {
        of_text(args, |text| {
            Ok(Value::Bool(Ip::parse(text)?.0.to_string() == text))
        })
    })?;
    function("isCIDR", vec![STRING_TYPE], |args| {
        of_text(args, |text| Ok(Value::Bool(Cidr::parse(text).is_ok())))
    })?;
    function("cidr", vec![STRING_TYPE], |args| {
        of_text(args, |text| Ok(opaque(Cidr::parse(text)?)))
    })?;
    function("isQuantity", vec![STRING_TYPE], |args| {
        of_text(args, |text| Ok(Value::Bool(amounts::parse(text).is_ok())))
    })?;
    function("quantity", vec![STRING_TYPE], |args| {
        of_text(args, |text| Ok(opaque(amounts::parse(text)?)))
    })?;
    function("sets.contains", vec![LIST_TYPE, LIST_TYPE], |args| {
        sets(args, contains_all)
    })?;
    function("sets.equivalent", vec![LIST_TYPE, LIST_TYPE], |args| {
        sets(args, |a, b| Ok(contains_all(a, b)? && contains_all(b, a)?))
    })?;
    function("sets.intersects", vec![LIST_TYPE, LIST_TYPE], |args| {
        sets(args, |a, b| {
            meter::spend(product(a, b))?;
            Ok(b.iter().any(|element| a.contains(element)))
        })
    })?;
    Ok(())
}

/// A value of a type of its own.
pub(crate) fn opaque(value: impl cel::objects::Opaque) -> Value {
    Value::Opaque(Arc::new(value))
}

pub(crate) fn give<'b, 'v>(value: Value) -> Outcome<'b, 'v> {
    let value: Box<dyn Val> = value.try_into()?;
    Ok(CowVal::Owned(value))
}

/// The argument at a place.
pub(crate) fn take(args: &Args<'_, '_>, index: usize) -> Result<Value, ExecutionError> {
    let arg = args.get(index).ok_or(ExecutionError::MissingArgumentOrTarget)?;
    Value::try_from(arg.as_ref())
}

fn text(args: &Args<'_, '_>, index: usize) -> Result<Arc<String>, ExecutionError> {
    match take(args, index)? {
        Value::String(text) => Ok(text),
        other => Err(ExecutionError::UnsupportedTargetType { target: other }),
    }
}

fn list(args: &Args<'_, '_>, index: usize) -> Result<Arc<Vec<Value>>, ExecutionError> {
    match take(args, index)? {
        Value::List(list) => Ok(list),
        other => Err(ExecutionError::UnsupportedTargetType { target: other }),
    }
}

fn of_text<'b, 'v>(
    args: Args<'b, 'v>,
    make: impl Fn(&str) -> Result<Value, ExecutionError>,
) -> Outcome<'b, 'v> {
    give(make(&text(&args, 0)?)?)
}

fn each<'b, 'v>(
    args: Args<'b, 'v>,
    make: impl Fn(&[Value]) -> Result<Value, ExecutionError>,
) -> Outcome<'b, 'v> {
    give(make(&list(&args, 0)?)?)
}

fn index<'b, 'v>(args: Args<'b, 'v>, find: impl Fn(&[Value], &Value) -> Option<usize>) -> Outcome<'b, 'v> {
    let found = find(&list(&args, 0)?, &take(&args, 1)?);
    let found = found.and_then(|index| i64::try_from(index).ok());
    give(Value::Int(found.unwrap_or(-1)))
}

fn order(a: &Value, b: &Value) -> Result<Ordering, ExecutionError> {
    a.partial_cmp(b)
        .ok_or_else(|| ExecutionError::ValuesNotComparable(a.clone(), b.clone()))
}

fn is_sorted(list: &[Value]) -> Result<bool, ExecutionError> {
    for pair in list.windows(2) {
        if order(&pair[0], &pair[1])? == Ordering::Greater {
            return Ok(false);
        }
    }
    Ok(true)
}

fn extreme(list: &[Value], wanted: Ordering, name: &str) -> Result<Value, ExecutionError> {
    let mut elements = list.iter();
    let mut found = elements
        .next()
        .ok_or_else(|| ExecutionError::function_error(name, format!("{name} called on empty list")))?;
    for element in elements {
        if order(element, found)? == wanted {
            found = element;
        }
    }
    Ok(found.clone())
}

fn sum(list: &[Value]) -> Result<Value, ExecutionError> {
    let mut elements = list.iter().cloned();
    let Some(first) = elements.next() else {
        return Ok(Value::Int(0));
    };
    elements.try_fold(first, |sum, element| sum + element)
}

fn product(a: &[Value], b: &[Value]) -> u64 {
    u64::try_from(a.len().saturating_mul(b.len())).unwrap_or(u64::MAX)
}

fn contains_all(a: &[Value], b: &[Value]) -> Result<bool, ExecutionError> {
    meter::spend(product(a, b))?;
    Ok(b.iter().all(|element| a.contains(element)))
}

fn sets<'b, 'v>(
    args: Args<'b, 'v>,
    compare: impl Fn(&[Value], &[Value]) -> Result<bool, ExecutionError>,
) -> Outcome<'b, 'v> {
    give(Value::Bool(compare(&list(&args, 0)?, &list(&args, 1)?)?))
}

fn pattern(args: &Args<'_, '_>, function: &str) -> Result<Regex, ExecutionError> {
    let pattern = text(args, 1)?;
    // Compiling one costs far more than a step.
    meter::spend(100)?;
    expression::compile(&pattern).map_err(|error| ExecutionError::function_error(function, error))
}

fn matches<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (target, pattern) = (text(&args, 0)?, pattern(&args, "matches")?);
    give(Value::Bool(pattern.is_match(&target)))
}

fn find<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (target, pattern) = (text(&args, 0)?, pattern(&args, "find")?);
    let found = pattern.find(&target).map(|found| found.as_str().to_owned());
    give(found.unwrap_or_default().into())
}

fn find_all<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (target, pattern) = (text(&args, 0)?, pattern(&args, "find")?);
    let most = match args.len() {
        3 => match take(&args, 2)? {
            Value::Int(most) => usize::try_from(most).unwrap_or(usize::MAX),
            other => return Err(ExecutionError::UnsupportedTargetType { target: other }),
        },
        _ => usize::MAX,
    };
    let found = pattern.find_iter(&target).take(most);
    let found = found.map(|found| Value::from(found.as_str())).collect();
    give(Value::List(Arc::new(found)))
}
