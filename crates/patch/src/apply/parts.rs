//! Parts of objects that come without being asked for.

use super::element::Element;
use super::set::Set;

/// Parts that objects always have: Kubernetes' types hold them, not references to them. Who brings what is in
/// them doesn't own the part itself, whether this server's objects had it before or not.
const PARTS: [&str; 11] = [
    "jobTemplate",
    "loadBalancer",
    "metadata",
    "names",
    "resources",
    "source",
    "spec",
    "status",
    "strategy",
    "template",
    "updateStrategy",
];

/// Lists that are there before they have elements.
const LISTS: [&str; 3] = ["containers", "rules", "versions"];

/// What came or went, but for the parts that are always there.
pub(crate) fn without_parts(mut set: Set) -> Set {
    for name in PARTS {
        let part = Element::field(name);
        if let Some(below) = set.take(&part) {
            set.put(part, without_parts(below.without_member()));
        }
    }
    for name in LISTS {
        let list = Element::field(name);
        // Without elements it is a list that is replaced whole, and owned so.
        if let Some(below) = set.take(&list) {
            let elements = below.clone().without_member();
            set.put(list, if elements.is_empty() { below } else { elements });
        }
    }
    set
}
