//! Inputs as large as requests may be, of the forms that make a careless reader slow, hungry or deep.

use std::sync::LazyLock;

use rstest::rstest;

/// How large; `FUZZ_LARGEST` may say more, as much as a request may have for instance. What costs the square of
/// that is seen by comparing two sizes.
static MOST: LazyLock<usize> = LazyLock::new(|| {
    std::env::var("FUZZ_LARGEST").map_or(64 << 10, |bytes| bytes.parse().expect("a number"))
});

/// A list of as many of these as fit, with their number in place of `#`.
fn many(element: &str) -> String {
    let count = *MOST / (element.len() + 6);
    let elements: Vec<String> = (0..count)
        .map(|index| element.replace('#', &index.to_string()))
        .collect();
    elements.join(",")
}

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

fn pod(spec: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"a","namespace":"b"}},"spec":{{"containers":[{{"name":"a","image":"b"}}]{spec}}}}}"#
    )
}

#[rstest]
#[case::fields_twice(format!(r#"{{"apiVersion":"v1","kind":"Pod","{}":{{{}}}}}"#, "x".repeat(*MOST / 2), many(r#""a":1"#)))]
#[case::unknown_fields(pod(&format!(r#","{}":1,{}"#, "x".repeat(*MOST / 2), many(r##""x#":1"##))))]
#[case::wrong_labels(format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a","labels":{{{}}}}}}}"#, many(r##""-#":"-""##)))]
#[case::data(format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{{{}}}}}"#, many(r##""/#":"""##)))]
#[case::containers(pod(&format!(r#","initContainers":[{}]"#, many(r##"{"name":"a#"}"##))))]
#[case::same_containers(pod(&format!(r#","initContainers":[{}]"#, many(r##"{"name":"a"}"##))))]
#[case::volumes(pod(&format!(r#","volumes":[{}]"#, many(r##"{"name":"a#","emptyDir":{}}"##))))]
#[case::tolerations(pod(&format!(r#","tolerations":[{}]"#, many(r##"{"key":"a#","operator":"Exists"}"##))))]
#[case::finalizers(format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a","finalizers":[{}]}}}}"#, many(r##""a/b#""##)))]
#[case::owners(format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a","ownerReferences":[{}]}}}}"#, many(r##"{"apiVersion":"v1","kind":"Pod","name":"a#","uid":"#"}"##)))]
#[case::service_ports(format!(r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"a"}},"spec":{{"ports":[{}]}}}}"#, many(r##"{"name":"a#","port":80}"##)))]
#[case::endpoints(format!(r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"a"}},"addressType":"IPv4","endpoints":[{}]}}"#, many(r#"{"addresses":["10.0.0.1"]}"#)))]
#[case::rules(format!(r#"{{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{{"name":"a"}},"rules":[{}]}}"#, many(r##"{"verbs":["a#"],"resources":["b"],"apiGroups":[""]}"##)))]
#[case::aliases("a: &a [x,x,x,x,x,x,x,x]\n".to_owned() + &(0..20).map(|n| {
    let one = char::from(b'a' + n);
    let other = char::from(b'b' + n);
    format!("{other}: &{other} [{}]\n", format!("*{one}").repeat(8).replace('*', ",*").trim_start_matches(','))
}).collect::<String>())]
#[case::nested_json(nested("[", "1", "]", *MOST / 2))]
#[case::nested_yaml(nested("- ", "1", "", *MOST / 2))]
#[case::nested_fields(nested(r#"{"a":"#, "1", "}", *MOST / 6))]
#[case::schema(definition(&nested(r#"{"type":"object","properties":{"a":"#, r#"{"type":"string"}"#, "}}", 100)))]
#[case::schemas(definition(&format!(r#"{{"type":"object","properties":{{{}}}}}"#, many(r##""a#":{"type":"string"}"##))))]
fn objects(#[case] text: String) {
    fuzz_targets::run("object", text.as_bytes());
}

fn definition(schema: &str) -> String {
    format!(
        r#"{{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{{"name":"widgets.example.com"}},"spec":{{"group":"example.com","scope":"Namespaced","names":{{"plural":"widgets","kind":"Widget"}},"versions":[{{"name":"v1","served":true,"storage":true,"schema":{{"openAPIV3Schema":{{"type":"object","properties":{{"spec":{schema}}}}}}}}}]}}}}"#
    )
}

#[rstest]
#[case::parentheses(nested("(", "true", ")", *MOST / 2))]
#[case::not(nested("!", "true", "", *MOST))]
#[case::minus(nested("-", "1", "", *MOST) + " == 1")]
#[case::lists(nested("[", "1", "]", *MOST / 2) + " == []")]
#[case::sums("1+".repeat(*MOST / 2) + "1 == 1")]
#[case::and("true&&".repeat(*MOST / 6) + "true")]
#[case::selections("self".to_owned() + &".name".repeat(*MOST / 5) + " == ''")]
#[case::indices("self".to_owned() + &"[0]".repeat(*MOST / 3) + " == ''")]
#[case::calls("self.name".to_owned() + &".trim()".repeat(*MOST / 7) + " == ''")]
#[case::choices("true?true:".repeat(*MOST / 10) + "true")]
#[case::text(format!("'{}' == ''", "x".repeat(*MOST)))]
#[case::list(format!("[{}].size() == 1", many("#")))]
#[case::loops(nested("self.names.all(a, ", "true", ")", 30))]
#[case::growing("self.names.map(a, self.names).map(a, [a,a,a,a]).map(a, [a,a,a,a]).map(a, [a,a,a,a]).map(a, [a,a,a,a]).map(a, [a,a,a,a]).map(a, [a,a,a,a]).map(a, [a,a,a,a]).map(a, [a,a,a,a]).map(a, [a,a,a,a]).map(a, [a,a,a,a]).map(a, [a,a,a,a]).size() == 3".to_owned())]
#[case::doubling("[self.name]".to_owned() + &".map(a, a+a+a+a+a+a+a+a)".repeat(12) + ".size() == 1")]
#[case::replacing("self.name".to_owned() + &".replace('', 'aaaaaaaaaaaaaaaa')".repeat(12) + ".size() == 1")]
#[case::splitting("self.name".to_owned() + &".replace('', 'aaaaaaaaaaaaaaaa')".repeat(4) + ".split('').join('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa').split('').size() == 1")]
#[case::format("'%s%s%s%s%s%s'.format([self.names,self.names,self.names,self.names,self.names,self.names]) == ''".to_owned())]
#[case::padding("'%.999999999f'.format([1.5]) == ''".to_owned())]
#[case::expressions("self.names.all(a, self.names.all(b, self.names.all(c, self.names.all(d, a.matches('(((x{9}){9}){9}){9}' + b + c + d) || true))))".to_owned())]
#[case::finding("self.names.all(a, self.names.all(b, self.names.all(c, self.names.all(d, a.find('(((x{9}){9}){9}){9}' + b + c + d) == ''))))".to_owned())]
fn a_rule(#[case] text: String) {
    fuzz_targets::run("rule", text.as_bytes());
}

#[rstest]
#[case::as_it_is(&volumes("a"), &volumes("a"))]
#[case::others(&volumes("a"), &volumes("b"))]
#[case::deleted(&volumes("a"), &volumes("a").replace("emptyDir\":{}", "$patch\":\"delete\""))]
#[case::a_set(&format!(r#""metadata":{{"finalizers":[{}]}}"#, many(r##""a/b#""##)), &format!(r#""metadata":{{"finalizers":[{}]}}"#, many(r##""a/c#""##)))]
#[case::kept_keys(&format!(r#""data":{{{}}}"#, many(r##""a#":"""##)), &format!(r#""data":{{"$retainKeys":[{}]}}"#, many(r##""b#""##)))]
fn a_patch(#[case] object: &str, #[case] patch: &str) {
    let text = format!(r#"{{"object":{{"apiVersion":"v1","kind":"Pod",{object}}},"patch":{{{patch}}}}}"#);
    fuzz_targets::run("patch", text.as_bytes());
}

fn volumes(name: &str) -> String {
    let volumes = many(&r##"{"name":"N#","emptyDir":{}}"##.replace('N', name));
    format!(r#""spec":{{"volumes":[{volumes}]}}"#)
}
