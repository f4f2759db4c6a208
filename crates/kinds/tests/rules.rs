//! Rules in the Common Expression Language, as definitions have them and as objects meet them.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fmt::Write as _;

use kinds::Kind;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

fn definition(spec: &Value) -> Value {
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": spec } } } }],
        },
    });
    let kind = definitions();
    definition = kind.decode(&definition).unwrap().object;
    kind.default(&mut definition);
    definition
}

fn definitions() -> &'static Kind {
    kinds::find("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap()
}

/// What is wrong with a definition, without the place of the schema.
fn refusals(spec: &Value) -> Vec<String> {
    let errors = definitions().validate(&definition(spec), None);
    let place = "spec.versions[0].schema.openAPIV3Schema.properties[spec].";
    errors
        .iter()
        .map(|error| error.to_string().replace(place, ""))
        .collect()
}

/// The kind of a definition that must be one.
fn kind(spec: &Value) -> Kind {
    assert_eq!(refusals(spec), [""; 0]);
    let mut definition = definition(spec);
    kinds::settle_definition(&mut definition, &[], "2024-01-01T00:00:00Z");
    kinds::kinds_of(&definition).remove(0)
}

fn widget(spec: &Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": { "name": "w", "namespace": "default", "creationTimestamp": "2023-12-31T23:55:00Z" },
        "spec": spec })
}

fn complaints(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    let (new, old) = (widget(new), old.map(widget));
    let errors = kind.validate(&new, old.as_ref());
    errors.iter().map(ToString::to_string).collect()
}

/// An object with a field of every type, and rules on it.
fn everything(rules: &[&str]) -> Value {
    let rules: Vec<_> = rules.iter().map(|rule| json!({ "rule": rule })).collect();
    json!({
        "type": "object", "x-kubernetes-validations": rules,
        "properties": {
            "flag": { "type": "boolean" }, "count": { "type": "integer" }, "share": { "type": "number" },
            "name": { "type": "string" }, "when": { "type": "string", "format": "date-time" },
            "day": { "type": "string", "format": "date" }, "long": { "type": "string", "format": "duration" },
            "raw": { "type": "string", "format": "byte" }, "any": { "x-kubernetes-int-or-string": true },
            "names": { "type": "array", "items": { "type": "string" } },
            "numbers": { "type": "array", "items": { "type": "integer" } },
            "ports": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": { "type": "object", "required": ["name"], "properties": {
                    "name": { "type": "string" }, "port": { "type": "integer" } } } },
            "labels": { "type": "object", "additionalProperties": { "type": "string" } },
            "inner": { "type": "object", "properties": { "namespace": { "type": "string" }, "a-b.c": { "type": "integer" } } },
            "quantity": { "type": "string" }, "maybe": { "type": "string", "nullable": true },
        },
    })
}

#[rstest]
#[case("self.count >= 0 && self.count < 10")]
#[case("self.flag || self.share > 0.5")]
#[case("self.share < self.count")]
#[case("self.name.startsWith('web') && self.name.matches('^[a-z0-9]+$') && size(self.name) == 4")]
#[case(r"!'é'.matches('^\\w$') && 'é'.matches('^\\W$') && !'٣'.matches('\\d') && matches('a_1', '^\\w+$')")]
#[case("self.name == 'web1' ? self.flag : false")]
#[case(
    "self.names.all(n, n.size() > 0) && self.names.exists(n, n == 'b') && !self.names.exists_one(n, true)"
)]
#[case("self.names.map(n, n + '!').filter(n, n != 'a!') == ['b!', 'c!']")]
#[case("'b' in self.names && !('x' in self.labels) && 'app' in self.labels")]
#[case(
    "self.labels.all(k, self.labels[k].size() > 0) && self.labels['app'] == 'web' && self.labels.app == 'web'"
)]
#[case(
    "self.ports.all(p, p.port > 0) && self.ports[0].name == 'http' && self.ports.map(p, p.port).sum() == 522"
)]
#[case("has(self.inner.__namespace__) && self.inner.a__dash__b__dot__c == 7")]
#[case("!has(self.missing) || true")]
#[case("self.when < timestamp('2025-01-01T00:00:00Z') && self.when.getFullYear() == 2024")]
#[case("self.day == timestamp('2024-02-29T00:00:00Z') && self.when - self.day == duration('12h')")]
#[case("self.long == duration('90m') && self.long.getMinutes() == 90")]
#[case("self.raw == b'hello' && self.raw.size() == 5")]
#[case("type(self.any) == int ? self.any == 5 : self.any == '5'")]
#[case(
    "self.numbers.isSorted() && self.numbers.min() == 1 && self.numbers.max() == 3 && self.numbers.indexOf(2) == 1"
)]
#[case(
    "quantity(self.quantity).isGreaterThan(quantity('1Gi')) && quantity('1.5Gi').compareTo(quantity('1536Mi')) == 0"
)]
#[case(
    "quantity('3').add(quantity('2')).asInteger() == 5 && !isQuantity('x') && quantity('-1').sign() == -1"
)]
#[case(
    "isIP('10.0.0.1') && !isIP('10.0.0.256') && ip('fe80::1').isLinkLocalUnicast() && ip('::1').family() == 6"
)]
#[case(
    "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsCIDR('10.0.0.0/7') && cidr('fd00::/8').prefixLength() == 8"
)]
#[case("string(cidr('10.1.2.3/8').masked()) == '10.0.0.0/8' && string(ip('10.0.0.1')) == '10.0.0.1'")]
#[case(
    "sets.contains(self.names, ['a', 'b']) && sets.intersects([1, 2], [2, 3]) && sets.equivalent([1, 2], [2, 1])"
)]
#[case(
    "'a1b22'.find('[0-9]+') == '1' && 'a1b22'.findAll('[0-9]+') == ['1', '22'] && self.name.replace('web', 'x') == 'x1'"
)]
#[case("self.?missing.orValue('x') == 'x' || true")]
#[case("self.?name.orValue('x') == 'web1' && optional.of(1).value() == 1 && !optional.none().hasValue()")]
#[case("'%s has %d'.format([self.name, self.count]) == 'web1 has 5' && self.names.join(',') == 'a,b,c'")]
#[case(
    "[1, 2, 3].all(i, [4, 5].all(j, i < j)) && {'a': 1}.a == 1 && int('5') == self.count && string(self.count) == '5'"
)]
#[case("self.maybe == null")]
fn a_rule_that_holds_is_silent(#[case] rule: &str) {
    let unknown = rule.contains("missing");
    let mut schema = everything(&[rule]);
    if unknown {
        schema["properties"]["missing"] = json!({ "type": "string" });
    }
    let object = json!({
        "flag": true, "count": 5, "share": 2, "name": "web1", "when": "2024-02-29T12:00:00Z", "day": "2024-02-29",
        "long": "1h30m", "raw": "aGVsbG8=", "any": 5, "names": ["a", "b", "c"], "numbers": [1, 2, 3],
        "ports": [{ "name": "http", "port": 80 }, { "name": "https", "port": 442 }], "labels": { "app": "web" },
        "inner": { "namespace": "x", "a-b.c": 7 }, "quantity": "2Gi", "maybe": null,
    });
    assert_eq!(complaints(&kind(&schema), &object, None), [""; 0]);
}

#[test]
fn a_broken_rule_says_what_it_was_made_to_say() {
    let schema = json!({
        "type": "object",
        "x-kubernetes-validations": [
            { "rule": "self.min <= self.max", "message": " min is above max ", "fieldPath": ".min" },
            { "rule": "self.max < 100", "messageExpression": "'max is ' + string(self.max) + ', above 99'", "reason": "FieldValueForbidden" },
            { "rule": "!has(self.labels) || !('bad' in self.labels)", "fieldPath": ".labels['bad']", "reason": "FieldValueDuplicate" },
            { "rule": "has(self.labels)", "reason": "FieldValueRequired", "messageExpression": "self.labels['absent']" },
        ],
        "properties": {
            "min": { "type": "integer", "x-kubernetes-validations": [{ "rule": "self >= 0" }] },
            "max": { "type": "integer" },
            "labels": { "type": "object", "additionalProperties": { "type": "string",
                "x-kubernetes-validations": [{ "rule": "self != 'x'" }] } },
            "list": { "type": "array", "items": { "type": "integer", "x-kubernetes-validations": [{ "rule": "self % 2 == 0" }] } },
        },
    });
    let kind = kind(&schema);
    let object = json!({ "min": 300, "max": 200, "list": [2, 3] });
    assert_eq!(
        complaints(&kind, &object, None),
        [
            "spec.min: Invalid value: \"object\": min is above max",
            "spec: Forbidden: max is 200, above 99",
            "spec: Required value: failed rule: has(self.labels)",
            "spec.list[1]: Invalid value: \"integer\": failed rule: self % 2 == 0",
        ]
    );
    let object = json!({ "min": -1, "max": 2, "labels": { "bad": "x" } });
    assert_eq!(
        complaints(&kind, &object, None),
        [
            "spec.labels[bad]: Duplicate value: \"object\"",
            "spec.labels[bad]: Invalid value: \"string\": failed rule: self != 'x'",
            "spec.min: Invalid value: \"integer\": failed rule: self >= 0",
        ]
    );
    // What can't be looked up is an error of the rule, and not a pass.
    let object = json!({ "min": 1 });
    assert_eq!(
        complaints(&kind, &object, None)[0],
        "spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max"
    );
}

#[test]
fn a_rule_about_what_was_is_run_where_there_was_something() {
    let schema = json!({
        "type": "object", "properties": {
            "fixed": { "type": "string", "x-kubernetes-validations": [{ "rule": "self == oldSelf", "message": "can't change" }] },
            "grows": { "type": "integer", "x-kubernetes-validations": [
                { "rule": "oldSelf.hasValue() ? self >= oldSelf.value() : self == 0", "optionalOldSelf": true } ] },
            "ports": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": { "type": "object", "required": ["name"],
                    "x-kubernetes-validations": [{ "rule": "self.port >= oldSelf.port" }],
                    "properties": { "name": { "type": "string" }, "port": { "type": "integer" } } } },
            "old": { "type": "integer", "x-kubernetes-validations": [{ "rule": "self < 10" }] },
        },
    });
    let kind = kind(&schema);
    let first = json!({ "fixed": "a", "grows": 0, "ports": [{ "name": "x", "port": 5 }, { "name": "y", "port": 7 }], "old": 3 });
    assert_eq!(complaints(&kind, &first, None), [""; 0]);
    assert_eq!(
        complaints(&kind, &json!({ "grows": 3 }), None),
        [
            "spec.grows: Invalid value: \"integer\": failed rule: oldSelf.hasValue() ? self >= oldSelf.value() : self == 0"
        ]
    );
    let second = json!({ "fixed": "b", "grows": 4, "ports": [{ "name": "y", "port": 8 }, { "name": "x", "port": 4 }], "old": 11 });
    assert_eq!(
        complaints(&kind, &second, Some(&first)),
        [
            "spec.fixed: Invalid value: \"string\": can't change",
            "spec.old: Invalid value: \"integer\": failed rule: self < 10",
            "spec.ports[1]: Invalid value: \"object\": failed rule: self.port >= oldSelf.port",
        ]
    );
    // What was let in before may stay.
    let mut third = second.clone();
    third["grows"] = 9.into();
    assert_eq!(complaints(&kind, &third, Some(&second)), [""; 0]);
}

#[test]
fn rules_are_not_run_on_what_has_the_wrong_type() {
    let kind = kind(&everything(&["self.count > 0", "self.name.size() < 5"]));
    assert_eq!(
        complaints(&kind, &json!({ "count": "x", "name": "a-long-one" }), None),
        [
            "spec.count: Invalid value: \"string\": spec.count in body must be of type integer: \"string\"",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ]
    );
}

#[test]
fn a_rule_sees_type_and_name_of_the_whole_object() {
    let schema = json!({ "type": "object" });
    let mut definition = definition(&schema);
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = json!([
        { "rule": "self.metadata.name == 'w' && self.kind == 'Widget' && self.apiVersion == 'example.com/v1'" },
        { "rule": "self.metadata.name.size() > 3", "message": "too short" },
    ]);
    assert_eq!(definitions().validate(&definition, None), []);
    kinds::settle_definition(&mut definition, &[], "2024-01-01T00:00:00Z");
    let kind = kinds::kinds_of(&definition).remove(0);
    let errors = complaints(&kind, &json!({}), None);
    assert_eq!(errors, ["<nil>: Invalid value: \"object\": too short"]);
}

#[rstest]
#[case("self.count > ", "Syntax error")]
#[case(
    "self.colour == 'red'",
    "ERROR: <input>:1:5: undefined field 'colour'\n | self.colour == 'red'\n | ....^"
)]
#[case("other == 1", "undeclared reference to 'other' (in container '')")]
#[case("self.count + 1", "cel expression must evaluate to a bool")]
#[case(
    "self.count == 'x'",
    "found no matching overload for '_==_' applied to '(int, string)'"
)]
#[case(
    "self.name > 5",
    "found no matching overload for '_>_' applied to '(string, int)'"
)]
#[case(
    "self.name.sum() == 5",
    "found no matching overload for 'sum' applied to 'string.()'"
)]
#[case(
    "self.count.size() == 5",
    "found no matching overload for 'size' applied to 'int.()'"
)]
#[case(
    "self.names.all(n, n > 5)",
    "found no matching overload for '_>_' applied to '(string, int)'"
)]
#[case("self.count.all(n, true)", "cannot be range of a comprehension")]
#[case("nothing(self)", "undeclared reference to 'nothing' (in container '')")]
#[case("self.inner.namespace == 'x'", "undefined field 'namespace'")]
#[case("self.metadata.name == 'x'", "undefined field 'metadata'")]
#[case(
    "self.names == [1]",
    "found no matching overload for '_==_' applied to '(list(string), list(int))'"
)]
#[case("self.labels[5] == 'x'", "found no matching overload for '_[_]'")]
#[case("{'a': 1, 'b': 'c'}.a == 1", "expected type 'int' but found 'string'")]
fn a_rule_that_cannot_work_is_refused_with_its_definition(#[case] rule: &str, #[case] says: &str) {
    let found = refusals(&everything(&[rule]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("x-kubernetes-validations[0].rule: Invalid value: "),
        "{}",
        found[0]
    );
    assert!(found[0].contains(says), "{}", found[0]);
}

#[test]
fn the_parts_of_a_rule_are_checked() {
    let mut schema = everything(&[]);
    schema["x-kubernetes-validations"] = json!([
        { "rule": " " },
        { "rule": "self.flag", "message": "a\nb" },
        { "rule": "self.flag ||\n true" },
        { "rule": "self.flag", "reason": "Odd" },
        { "rule": "self.flag", "fieldPath": ".colour" },
        { "rule": "self.flag", "fieldPath": "flag" },
        { "rule": "self.flag", "messageExpression": "5" },
        { "rule": "self.flag", "messageExpression": "self.colour" },
        { "rule": "self.flag", "optionalOldSelf": true },
        { "rule": "self.flag", "message": " " },
    ]);
    schema["properties"]["names"]["items"]["x-kubernetes-validations"] =
        json!([{ "rule": "self == oldSelf" }]);
    let mut text = String::new();
    for refusal in refusals(&schema) {
        writeln!(text, "{refusal}").unwrap();
    }
    insta::assert_snapshot!(text);
}

/// The test would take years otherwise.
#[test]
fn a_rule_that_costs_too_much_is_stopped() {
    let rule = "self.numbers.all(a, self.numbers.all(b, self.numbers.all(c, a + b + c > 0)))";
    let numbers: Vec<i64> = (1..5_000).collect();
    let says = complaints(&kind(&everything(&[rule])), &json!({ "numbers": numbers }), None);
    assert!(says[0].contains("actual cost limit exceeded"), "{says:?}");
    // Each is cheap enough, and there are many.
    let rule = "self.numbers.all(a, self.name.contains('z') || true)";
    let kind_of_many = kind(&everything(&[rule; 12]));
    let object = json!({ "numbers": numbers[..90], "name": "x".repeat(100_000) });
    let says = complaints(&kind_of_many, &object, None);
    assert_eq!(
        says,
        [
            "<nil>: Invalid value: \"object\": validation failed due to running out of cost budget, no further validation rules will be run"
        ]
    );
    // Texts count as well, and so do functions that look through lists.
    for rule in [
        "self.numbers.all(a, self.name.matches('x.*y') || true)",
        "self.numbers.all(a, self.numbers.indexOf(a) >= 0)",
        "self.numbers.all(a, self.numbers + self.numbers != [])",
        "self.numbers.all(a, self == self)",
        "sets.equivalent(self.numbers, self.numbers)",
    ] {
        let object = json!({ "numbers": numbers, "name": "x".repeat(100_000) });
        let says = complaints(&kind(&everything(&[rule])), &object, None);
        assert!(says[0].contains("actual cost limit exceeded"), "{rule}: {says:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Whatever stands in a rule, it is compiled or refused; and whatever it is run on, it ends.
    #[test]
    fn no_rule_stops_the_server(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "self", "self.count", "self.names", "self.ports", "oldSelf", "1", "0", "-", "+", "*", "/", "%", "'a'", "==", "<", "&&",
                "||", "!", "?", ":", "(", ")", "[", "]", ".", ",", "{", "}", "all(x, ", "map(x, ", "filter(y, ", "has(",
                "size()", "x", "y", "in", "null", "true", "9223372036854775807", "1.5", "\"", "\\", "\n", "quantity('1')",
                "optional.of(", "orValue(", ".?count", "dyn(", "timestamp('x')", "matches('(')", "sum()", "find('a')",
            ]),
            0..12,
        ),
        count: i64,
    ) {
        let rule = parts.join("");
        let schema = everything(&[&rule]);
        let before = refusals(&schema);
        if before.is_empty() && !rule.trim().is_empty() {
            let kind = kind(&schema);
            let object = json!({ "count": count, "names": ["a"], "ports": [{ "name": "a", "port": count }] });
            let _ = complaints(&kind, &object, Some(&json!({ "count": 1 })));
        }
    }
}
