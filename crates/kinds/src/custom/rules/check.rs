//! Whether a rule's expression makes sense: every name is known, and every function gets what it takes.

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo};

use super::signatures;
use super::types::{METADATA, Ty};

/// Finds the type of an expression, and what is wrong with it.
pub(crate) struct Checker<'a, 's> {
    source: &'s SourceInfo,
    variables: Vec<(String, Ty<'a>)>,
    mistakes: Vec<String>,
}

impl<'a, 's> Checker<'a, 's> {
    /// The type of an expression in which `variables` are known, or what is wrong with it.
    pub(crate) fn type_of(
        expression: &IdedExpr,
        source: &'s SourceInfo,
        variables: Vec<(String, Ty<'a>)>,
    ) -> Result<Ty<'a>, String> {
        let mut checker = Checker {
            source,
            variables,
            mistakes: Vec::new(),
        };
        let ty = checker.check(expression);
        match checker.mistakes.is_empty() {
            true => Ok(ty),
            false => Err(checker.mistakes.join("\n")),
        }
    }

    /// Notes a mistake, with the line and a mark under its place.
    fn mistake(&mut self, expression: &IdedExpr, message: &str) -> Ty<'a> {
        let offset = self
            .source
            .offset_for(expression.id)
            .map_or(0, |(start, _)| start as usize);
        let text = &self.source.source;
        let before = text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let shown = text.lines().nth(line).unwrap_or_default();
        self.mistakes.push(format!(
            "ERROR: <input>:{}:{}: {message}\n | {shown}\n | {}^",
            line + 1,
            column + 1,
            ".".repeat(column)
        ));
        Ty::Dyn
    }

    fn check(&mut self, expression: &IdedExpr) -> Ty<'a> {
        match &expression.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Ty::Bool,
                LiteralValue::Bytes(_) => Ty::Bytes,
                LiteralValue::Double(_) => Ty::Double,
                LiteralValue::Int(_) => Ty::Int,
                LiteralValue::Null => Ty::Null,
                LiteralValue::String(_) => Ty::String,
                LiteralValue::UInt(_) => Ty::Uint,
            },
            Expr::Ident(name) => self.name(expression, name),
            Expr::Select(select) => {
                let operand = self.check(&select.operand);
                let field = self.field(expression, &operand, &select.field);
                if select.test { Ty::Bool } else { field }
            }
            Expr::List(list) => {
                let mut elements = Ty::Dyn;
                for (index, element) in list.elements.iter().enumerate() {
                    let mut ty = self.check(element);
                    if list.optional_indices.contains(&index)
                        && let Ty::Optional(inner) = ty
                    {
                        ty = *inner;
                    }
                    elements = self.joined(element, elements, ty);
                }
                Ty::list(elements)
            }
            Expr::Map(map) => {
                let (mut keys, mut values) = (Ty::Dyn, Ty::Dyn);
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        let key = self.check(&entry.key);
                        keys = self.joined(&entry.key, keys, key);
                        let mut value = self.check(&entry.value);
                        if let (true, Ty::Optional(inner)) = (entry.optional, &value) {
                            value = (**inner).clone();
                        }
                        values = self.joined(&entry.value, values, value);
                    }
                }
                Ty::map(keys, values)
            }
            Expr::Struct(object) => {
                let message = format!("undeclared reference to '{}' (in container '')", object.type_name);
                self.mistake(expression, &message)
            }
            Expr::Call(_) => self.call(expression),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Unspecified => self.mistake(expression, "an expression is missing"),
        }
    }

    fn name(&mut self, expression: &IdedExpr, name: &str) -> Ty<'a> {
        let mut variables = self.variables.iter().rev();
        if let Some((_, ty)) = variables.find(|(variable, _)| variable == name) {
            return ty.clone();
        }
        match name {
            "int" | "uint" | "double" | "bool" | "string" | "bytes" | "list" | "map" | "null_type"
            | "type" => Ty::Type,
            _ => {
                let message = format!("undeclared reference to '{name}' (in container '')");
                self.mistake(expression, &message)
            }
        }
    }

    fn field(&mut self, expression: &IdedExpr, operand: &Ty<'a>, name: &str) -> Ty<'a> {
        let found = match operand {
            Ty::Dyn => Some(Ty::Dyn),
            Ty::Map(key, value) if key.fits(&Ty::String) => Some((**value).clone()),
            Ty::Object(schema, is_resource) => Ty::field(*schema, *is_resource, name),
            Ty::Library(METADATA) => matches!(name, "name" | "generateName").then_some(Ty::String),
            Ty::Optional(inner) => return Ty::optional(self.field(expression, inner, name)),
            other => {
                let message = format!("type '{other}' does not support field selection");
                return self.mistake(expression, &message);
            }
        };
        match found {
            Some(ty) => ty,
            None => self.mistake(expression, &format!("undefined field '{name}'")),
        }
    }

    /// The type of several values that must be of one.
    fn joined(&mut self, expression: &IdedExpr, known: Ty<'a>, next: Ty<'a>) -> Ty<'a> {
        if known.fits(&next) {
            return known.join(next);
        }
        let message = format!("expected type '{known}' but found '{next}'");
        self.mistake(expression, &message)
    }

    fn call(&mut self, expression: &IdedExpr) -> Ty<'a> {
        let Expr::Call(call) = &expression.expr else {
            return Ty::Dyn;
        };
        if let ("_?._", [operand, field]) = (call.func_name.as_str(), &call.args[..]) {
            let operand = match self.check(operand) {
                Ty::Optional(inner) => *inner,
                other => other,
            };
            return match &field.expr {
                Expr::Literal(LiteralValue::String(name)) => {
                    Ty::optional(self.field(expression, &operand, name.inner()))
                }
                _ => Ty::Dyn,
            };
        }
        let mut args: Vec<Ty<'a>> = Vec::with_capacity(call.args.len() + 1);
        let mut name = call.func_name.clone();
        let mut is_method = false;
        if let Some(target) = &call.target {
            match namespaced(&target.expr, &call.func_name) {
                Some(whole) => name = whole,
                None => {
                    is_method = true;
                    args.push(self.check(target));
                }
            }
        }
        for arg in &call.args {
            let ty = match &arg.expr {
                // What a text is made of may be of any types.
                Expr::List(list) if name == "format" => {
                    list.elements.iter().for_each(|element| _ = self.check(element));
                    Ty::list(Ty::Dyn)
                }
                _ => self.check(arg),
            };
            args.push(ty);
        }
        if let Some(ty) = signatures::outcome(&name, is_method, &args) {
            return ty;
        }
        let is_operator = !name.starts_with(char::is_alphabetic);
        let message = if is_operator || signatures::is_known(&name) {
            let texts: Vec<String> = args.iter().map(ToString::to_string).collect();
            let applied = match is_method {
                true => format!("{}.({})", texts[0], texts[1..].join(", ")),
                false => format!("({})", texts.join(", ")),
            };
            format!("found no matching overload for '{name}' applied to '{applied}'")
        } else {
            format!("undeclared reference to '{name}' (in container '')")
        };
        self.mistake(expression, &message)
    }

    /// What a macro such as `all` has become.
    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Ty<'a> {
        let range = self.check(&comprehension.iter_range);
        let (first, second) = match &range {
            Ty::List(element) => match comprehension.iter_var2 {
                None => ((**element).clone(), Ty::Dyn),
                Some(_) => (Ty::Int, (**element).clone()),
            },
            Ty::Map(key, value) => ((**key).clone(), (**value).clone()),
            Ty::Dyn => (Ty::Dyn, Ty::Dyn),
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.mistake(&comprehension.iter_range, &message), Ty::Dyn)
            }
        };
        let known = self.variables.len();
        let accumulated = self.check(&comprehension.accu_init);
        self.variables.push((comprehension.accu_var.clone(), accumulated));
        self.variables.push((comprehension.iter_var.clone(), first));
        if let Some(name) = &comprehension.iter_var2 {
            self.variables.push((name.clone(), second));
        }
        self.check(&comprehension.loop_cond);
        let step = self.check(&comprehension.loop_step);
        let accumulated = self.variables[known].1.clone().join(step);
        self.variables.truncate(known);
        self.variables.push((comprehension.accu_var.clone(), accumulated));
        let result = self.check(&comprehension.result);
        self.variables.truncate(known);
        result
    }
}

/// The whole name of a function whose name has a dot, as in `sets.contains`.
pub(crate) fn namespaced(target: &Expr, name: &str) -> Option<String> {
    let Expr::Ident(namespace) = target else {
        return None;
    };
    let whole = format!("{namespace}.{name}");
    signatures::is_known(&whole).then_some(whole)
}
