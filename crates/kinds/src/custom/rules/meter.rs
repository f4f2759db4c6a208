//! What rules may cost. Whatever an expression loops over, compares or searches is counted before it is done, so
//! that no object keeps the server busy for long.
//!
//! The units are about those of Kubernetes: one for a step of evaluation or ten bytes of text. So are the limits:
//! a rule may cost a million, about a tenth of a second, and all the rules of an object ten million.

use std::cell::Cell;

use cel::ExecutionError;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};
use cel::common::types::{CelBytes, CelInt, CelList, CelMap, CelString};
use cel::common::value::{CowVal, Val};

use super::check::namespaced;

/// The most that one run of a rule may cost.
pub(crate) const MOST_OF_A_RULE: u64 = 1_000_000;
/// The most that all the rules of an object may cost.
pub(crate) const MOST_OF_AN_OBJECT: u64 = 10_000_000;

thread_local! {
    /// What the rule that is being run may still cost.
    static LEFT: Cell<u64> = const { Cell::new(0) };
    static EXHAUSTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs an evaluation that may cost so much; tells its outcome, or nothing if that wasn't enough, and the cost.
pub(crate) fn limited<T>(most: u64, run: impl FnOnce() -> T) -> (Option<T>, u64) {
    LEFT.set(most);
    EXHAUSTED.set(false);
    let outcome = run();
    let spent = most - LEFT.get();
    ((!EXHAUSTED.get()).then_some(outcome), spent)
}

/// Takes from what is left.
pub(crate) fn spend(cost: u64) -> Result<(), ExecutionError> {
    match LEFT.get().checked_sub(cost) {
        Some(left) => {
            LEFT.set(left);
            Ok(())
        }
        None => {
            LEFT.set(0);
            EXHAUSTED.set(true);
            Err(ExecutionError::function_error("@spend", "cost limit exceeded"))
        }
    }
}

/// `matches` by Go's idea of expressions, instead of the language's own, whose classes know all of Unicode.
pub(crate) const MATCHES: &str = "@matches";

/// The function that expressions call for it: a value, and how much each of its parts costs.
pub(crate) const SPEND: &str = "@spend";

pub(crate) fn spend_call<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let weight = args
        .get(1)
        .and_then(|weight| weight.downcast_ref::<CelInt>())
        .map_or(1, |weight| u64::try_from(*weight.inner()).unwrap_or(1));
    let value = args.swap_remove(0);
    spend(1)?;
    spend_for(value.as_ref(), weight)?;
    Ok(value)
}

/// Counts the parts of a value, `weight` for each of the first level.
fn spend_for(value: &dyn Val, weight: u64) -> Result<(), ExecutionError> {
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return spend(count(text.inner().len() / 10));
    }
    if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        return spend(count(bytes.inner().len() / 10));
    }
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        spend(count(list.inner().len()).saturating_mul(weight))?;
        return list
            .inner()
            .iter()
            .try_for_each(|element| spend_for(element.as_ref(), 1));
    }
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        spend(count(map.inner().len()).saturating_mul(weight))?;
        return map
            .inner()
            .values()
            .try_for_each(|value| spend_for(value.as_ref(), 1));
    }
    Ok(())
}

/// Has an expression count what it costs.
pub(crate) fn metered(expression: &mut IdedExpr) {
    match &mut expression.expr {
        Expr::Call(call) => {
            let is_logical = matches!(
                call.func_name.as_str(),
                "_&&_" | "_||_" | "!_" | "_?_:_" | "@not_strictly_false"
            );
            let reaches_in = matches!(call.func_name.as_str(), "_[_]" | "_[?_]" | "_?._");
            // What a macro gathers its elements in is looked at once, at the end.
            let gathers = matches!(call.args.first(), Some(arg) if is_internal(arg));
            let is_namespace = call
                .target
                .as_ref()
                .is_some_and(|target| namespaced(&target.expr, &call.func_name).is_some());
            if let Some(target) = call.target.as_mut().filter(|_| !is_namespace) {
                metered(target);
                wrap(target, 1);
            }
            for arg in &mut call.args {
                metered(arg);
                if !is_logical && !reaches_in && !gathers {
                    wrap(arg, 1);
                }
            }
            if call.func_name == "matches" {
                MATCHES.clone_into(&mut call.func_name);
                let target = call.target.take();
                call.args.splice(..0, target.map(|target| *target));
            }
        }
        Expr::Comprehension(comprehension) => {
            let weight = size(&comprehension.loop_cond) + size(&comprehension.loop_step);
            for part in [
                &mut comprehension.iter_range,
                &mut comprehension.accu_init,
                &mut comprehension.loop_cond,
                &mut comprehension.loop_step,
                &mut comprehension.result,
            ] {
                metered(part);
            }
            wrap(&mut comprehension.iter_range, weight);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(metered),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let cel::common::ast::EntryExpr::MapEntry(entry) = &mut entry.expr {
                    metered(&mut entry.key);
                    metered(&mut entry.value);
                }
            }
        }
        Expr::Select(select) => metered(&mut select.operand),
        Expr::Struct(_) | Expr::Literal(_) | Expr::Ident(_) | Expr::Unspecified => {}
    }
}

fn is_internal(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if name.starts_with('@'))
}

fn wrap(expression: &mut IdedExpr, weight: i64) {
    if matches!(expression.expr, Expr::Literal(_)) || is_internal(expression) {
        return;
    }
    let id = expression.id;
    let inner = std::mem::take(expression);
    let weight = IdedExpr {
        id,
        expr: Expr::Literal(LiteralValue::Int(CelInt::from(weight))),
    };
    expression.id = id;
    expression.expr = Expr::Call(CallExpr {
        func_name: SPEND.to_owned(),
        target: None,
        args: vec![inner, weight],
    });
}

/// The nodes of an expression.
fn size(expression: &IdedExpr) -> i64 {
    let of = |parts: &[IdedExpr]| parts.iter().map(size).sum::<i64>();
    1 + match &expression.expr {
        Expr::Call(call) => of(&call.args) + call.target.as_ref().map_or(0, |target| size(target)),
        Expr::Comprehension(c) => {
            size(&c.iter_range)
                + size(&c.loop_cond)
                + size(&c.loop_step)
                + size(&c.result)
                + size(&c.accu_init)
        }
        Expr::List(list) => of(&list.elements),
        Expr::Select(select) => size(&select.operand),
        Expr::Map(map) => i64::try_from(map.entries.len()).unwrap_or(i64::MAX / 4),
        _ => 0,
    }
}
