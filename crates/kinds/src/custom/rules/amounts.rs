//! Quantities in rules.

use quantity::Quantity;
use std::cmp::Ordering;

use cel::common::functions::Function;
use cel::common::types::{DYN_TYPE, Type};
use cel::common::value::CowVal;
use cel::objects::Opaque;
use cel::{DeclarationError, ExecutionError, Value};

use super::functions::{give, opaque, take};

/// A quantity. Those of the same amount are equal, however they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amount(Quantity);

impl Opaque for Amount {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.Quantity"
    }
}

pub(crate) fn parse(text: &str) -> Result<Amount, ExecutionError> {
    let quantity = Quantity::parse(text);
    quantity
        .map(Amount)
        .map_err(|error| ExecutionError::function_error("quantity", error))
}

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;

/// Quantities, or whole numbers where those will do.
fn amount(args: &Args<'_, '_>, index: usize) -> Result<Quantity, ExecutionError> {
    let no_overload = || ExecutionError::function_error("quantity", "no such overload");
    match take(args, index)? {
        Value::Int(whole) if index > 0 => Ok(Quantity::whole(whole)),
        Value::Opaque(value) => match value.downcast_ref::<Amount>() {
            Some(Amount(quantity)) => Ok(*quantity),
            None => Err(no_overload()),
        },
        _ => Err(no_overload()),
    }
}

/// Adds the methods of quantities.
pub(crate) fn add(
    method: &mut impl FnMut(&str, Type, Vec<Type>, Function) -> Result<(), DeclarationError>,
) -> Result<(), DeclarationError> {
    method("isInteger", DYN_TYPE, vec![], |args| {
        give(Value::Bool(amount(&args, 0)?.as_whole().is_some()))
    })?;
    method("asInteger", DYN_TYPE, vec![], |args| {
        match amount(&args, 0)?.as_whole() {
            Some(whole) => give(Value::Int(whole)),
            None => {
                let why = "cannot convert value to integer";
                Err(ExecutionError::function_error("asInteger", why))
            }
        }
    })?;
    method("asApproximateFloat", DYN_TYPE, vec![], |args| {
        give(Value::Float(amount(&args, 0)?.as_f64()))
    })?;
    method("sign", DYN_TYPE, vec![], |args| {
        let quantity = amount(&args, 0)?;
        give(Value::Int(match (quantity.is_negative(), quantity.is_zero()) {
            (true, _) => -1,
            (_, true) => 0,
            _ => 1,
        }))
    })?;
    method("add", DYN_TYPE, vec![DYN_TYPE], |args| {
        give(opaque(Amount(amount(&args, 0)?.plus(amount(&args, 1)?))))
    })?;
    method("sub", DYN_TYPE, vec![DYN_TYPE], |args| {
        give(opaque(Amount(
            amount(&args, 0)?.plus(amount(&args, 1)?.negated()),
        )))
    })?;
    method("isGreaterThan", DYN_TYPE, vec![DYN_TYPE], |args| {
        give(Value::Bool(compare(&args)? == Ordering::Greater))
    })?;
    method("isLessThan", DYN_TYPE, vec![DYN_TYPE], |args| {
        give(Value::Bool(compare(&args)? == Ordering::Less))
    })?;
    method("compareTo", DYN_TYPE, vec![DYN_TYPE], |args| {
        give(Value::Int(compare(&args)? as i64))
    })
}

fn compare(args: &Args<'_, '_>) -> Result<Ordering, ExecutionError> {
    Ok(amount(args, 0)?.cmp(&amount(args, 1)?))
}
