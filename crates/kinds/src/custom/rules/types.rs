//! The types of the Common Expression Language, as far as schemas and the functions of rules have them.

use std::fmt;

use crate::custom::schema::{Additional, Schema};

/// A type. What a schema says nothing of is [`Ty::Dyn`]: it is checked when a rule is run.
#[derive(Debug, Clone)]
pub(crate) enum Ty<'a> {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    /// A type as a value, as `type(1)` is.
    Type,
    List(Box<Ty<'a>>),
    Map(Box<Ty<'a>>, Box<Ty<'a>>),
    Optional(Box<Ty<'a>>),
    /// An object of a schema; with type and metadata if it is a whole resource.
    Object(Schema<'a>, bool),
    /// A type of Kubernetes' libraries, as in `net.IP`.
    Library(&'static str),
}

pub(crate) const IP: Ty<'static> = Ty::Library("net.IP");
pub(crate) const CIDR: Ty<'static> = Ty::Library("net.CIDR");
pub(crate) const QUANTITY: Ty<'static> = Ty::Library("kubernetes.Quantity");

impl<'a> Ty<'a> {
    pub(crate) fn list(element: Ty<'a>) -> Ty<'a> {
        Ty::List(Box::new(element))
    }

    pub(crate) fn map(key: Ty<'a>, value: Ty<'a>) -> Ty<'a> {
        Ty::Map(Box::new(key), Box::new(value))
    }

    pub(crate) fn optional(inner: Ty<'a>) -> Ty<'a> {
        Ty::Optional(Box::new(inner))
    }

    /// The type of a schema's values; none where rules can't reach them.
    pub(crate) fn of_schema(schema: Schema<'a>, is_root: bool) -> Option<Ty<'a>> {
        if schema.is_int_or_string() {
            return Some(Ty::Dyn);
        }
        Some(match schema.ty() {
            "object" => match schema.additional() {
                Additional::Of(values) => Ty::map(Ty::String, Ty::of_schema(values, false)?),
                _ => Ty::Object(schema, is_root || schema.is_resource()),
            },
            "array" => Ty::list(Ty::of_schema(schema.items()?, false)?),
            "string" => match schema.text("format") {
                "byte" => Ty::Bytes,
                "duration" => Ty::Duration,
                "date" | "date-time" => Ty::Timestamp,
                _ => Ty::String,
            },
            "boolean" => Ty::Bool,
            "integer" => Ty::Int,
            "number" => Ty::Double,
            _ => return None,
        })
    }

    /// The type of an object's field, by the name that rules have for it.
    pub(crate) fn field(schema: Schema<'a>, is_resource: bool, name: &str) -> Option<Ty<'a>> {
        if is_resource {
            match name {
                "apiVersion" | "kind" => return Some(Ty::String),
                "metadata" => return Some(Ty::Library(METADATA)),
                _ => {}
            }
        }
        let mut properties = schema.properties();
        let (_, property) = properties.find(|(property, _)| escape(property).as_deref() == Some(name))?;
        Ty::of_schema(property, false)
    }

    /// Whether values of one type may be where the other is expected.
    pub(crate) fn fits(&self, other: &Ty<'_>) -> bool {
        match (self, other) {
            (Ty::Dyn, _) | (_, Ty::Dyn) => true,
            (Ty::List(a), Ty::List(b)) | (Ty::Optional(a), Ty::Optional(b)) => a.fits(b),
            (Ty::Map(a, b), Ty::Map(c, d)) => a.fits(c) && b.fits(d),
            // Objects have no names that could be told apart.
            (Ty::Object(..) | Ty::Library(METADATA), Ty::Object(..) | Ty::Library(METADATA)) => true,
            (Ty::Library(a), Ty::Library(b)) => a == b,
            // A field that may be null is compared with null.
            (Ty::Null, _) | (_, Ty::Null) => true,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    /// The type of values that are of one or the other type; the one that says more.
    pub(crate) fn join(self, other: Ty<'a>) -> Ty<'a> {
        match (self, other) {
            (Ty::Dyn | Ty::Null, other) => other,
            (Ty::List(a), Ty::List(b)) => Ty::list(a.join(*b)),
            (Ty::Map(a, b), Ty::Map(c, d)) => Ty::map(a.join(*c), b.join(*d)),
            (Ty::Optional(a), Ty::Optional(b)) => Ty::optional(a.join(*b)),
            (this, _) => this,
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Ty::Int | Ty::Uint | Ty::Double | Ty::Dyn)
    }

    /// Whether values of the type have an order.
    pub(crate) fn is_ordered(&self) -> bool {
        self.is_number()
            || matches!(
                self,
                Ty::Bool | Ty::String | Ty::Bytes | Ty::Timestamp | Ty::Duration
            )
    }
}

/// What a rule sees of metadata: `name` and `generateName`.
pub(crate) const METADATA: &str = "metadata";

impl fmt::Display for Ty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ty::Dyn => "dyn",
            Ty::Null => "null",
            Ty::Bool => "bool",
            Ty::Int => "int",
            Ty::Uint => "uint",
            Ty::Double => "double",
            Ty::String => "string",
            Ty::Bytes => "bytes",
            Ty::Timestamp => "timestamp",
            Ty::Duration => "duration",
            Ty::Type => "type",
            Ty::Object(..) => "object",
            Ty::Library(name) => name,
            Ty::List(element) => return write!(f, "list({element})"),
            Ty::Map(key, value) => return write!(f, "map({key}, {value})"),
            Ty::Optional(inner) => return write!(f, "optional_type({inner})"),
        })
    }
}

/// Words that can't be fields in an expression.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A property's name as rules write it (API reference, "Validation rules", on escaping); none for a property
/// that they can't name.
pub(crate) fn escape(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let first = name.chars().next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    if first.is_ascii_digit() || !name.chars().all(plain) {
        return None;
    }
    let name = name.replace("__", "__underscores__");
    Some(
        name.replace('.', "__dot__")
            .replace('-', "__dash__")
            .replace('/', "__slash__"),
    )
}
