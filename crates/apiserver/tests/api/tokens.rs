//! ServiceAccount tokens: given, used, and refused when what they are bound to is gone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{ACCOUNTS, ISSUER, PODS, Raw, Running, pod};

const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

async fn who(raw: &Raw) -> (u16, Value) {
    let answer = raw.post(WHO, &json!({})).await;
    (answer.code, answer.body["status"]["userInfo"].clone())
}

fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// A pod on a node, and its uid.
async fn bound_pod(running: &Running, name: &str, node: &str) -> String {
    let admin = running.raw();
    let created = admin.post(PODS, &pod(name, &["c"])).await;
    assert_eq!(created.code, 201, "{}", created.body);
    let target = json!({ "target": { "name": node } });
    let bound = admin.post(&format!("{PODS}/{name}/binding"), &target).await;
    assert_eq!(bound.code, 201, "{}", bound.body);
    created.body["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn to(kind: &str, name: &str) -> Value {
    json!({ "boundObjectRef": { "apiVersion": "v1", "kind": kind, "name": name } })
}

#[tokio::test]
async fn a_token_speaks_for_its_account_until_that_is_gone() {
    let running = Running::with_tokens().await;
    running.account("robot").await;
    let token = running.token("robot", json!({})).await;
    let found = claims(&token);
    assert_eq!(found["iss"], ISSUER);
    assert_eq!(found["aud"], json!([ISSUER]));
    assert_eq!(
        found["exp"].as_i64().unwrap() - found["iat"].as_i64().unwrap(),
        3600
    );

    let raw = running.with_token(&token);
    let (code, user) = who(&raw).await;
    assert_eq!(code, 201);
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        user["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let id = format!("JTI={}", found["jti"].as_str().unwrap());
    assert_eq!(
        user["extra"]["authentication.kubernetes.io/credential-id"],
        json!([id])
    );

    running
        .raw()
        .delete(&format!("{ACCOUNTS}/robot"), &Value::Null)
        .await;
    assert_eq!(who(&raw).await.0, 401);
    // Another of the same name is another.
    running.account("robot").await;
    assert_eq!(who(&raw).await.0, 401);
}

#[tokio::test]
async fn a_token_dies_with_its_pod_and_tells_where_that_runs() {
    let running = Running::with_tokens().await;
    let uid = bound_pod(&running, "p", "n1").await;
    let raw = running.with_token(&running.token("default", to("Pod", "p")).await);
    let (code, user) = who(&raw).await;
    assert_eq!(code, 201);
    let extra = &user["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!([uid]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["n1"]));

    let now = json!({ "gracePeriodSeconds": 0 });
    assert_eq!(running.raw().delete(&format!("{PODS}/p"), &now).await.code, 200);
    assert_eq!(who(&raw).await.0, 401);
    bound_pod(&running, "p", "n1").await;
    assert_eq!(who(&raw).await.0, 401, "another pod of that name");
}

#[tokio::test]
async fn a_token_is_bound_to_objects_that_are_there_and_belong_to_its_account() {
    let running = Running::with_tokens().await;
    running.account("robot").await;
    bound_pod(&running, "p", "n1").await;
    let admin = running.raw();
    let path = format!("{ACCOUNTS}/robot/token");
    for (spec, code, message) in [
        (
            to("Pod", "p"),
            400,
            "cannot bind token for serviceaccount \"robot\" to pod running with different serviceaccount name.",
        ),
        (to("Pod", "gone"), 404, "pods \"gone\" not found"),
        (to("Node", "gone"), 404, "nodes \"gone\" not found"),
        (to("Secret", "gone"), 404, "secrets \"gone\" not found"),
        (to("Service", "s"), 400, "cannot bind token to object of type"),
        (
            json!({ "expirationSeconds": 60 }),
            422,
            "may not specify a duration less than 10 minutes",
        ),
    ] {
        let refused = admin.post(&path, &json!({ "spec": spec })).await;
        assert_eq!(refused.code, code, "{}", refused.body);
        assert!(refused.message().contains(message), "{}", refused.message());
    }
    let mut wrong = to("Pod", "p");
    wrong["boundObjectRef"]["uid"] = "another".into();
    let refused = admin
        .post(&format!("{ACCOUNTS}/default/token"), &json!({ "spec": wrong }))
        .await;
    assert_eq!(refused.code, 409, "{}", refused.body);
    let refused = admin.post(&format!("{ACCOUNTS}/nobody/token"), &json!({})).await;
    assert_eq!(refused.message(), "serviceaccounts \"nobody\" not found");

    let secret = json!({ "metadata": { "name": "s" } });
    admin.post("/api/v1/namespaces/default/secrets", &secret).await;
    let raw = running.with_token(&running.token("robot", to("Secret", "s")).await);
    assert_eq!(who(&raw).await.0, 201);
    admin
        .delete("/api/v1/namespaces/default/secrets/s", &Value::Null)
        .await;
    assert_eq!(who(&raw).await.0, 401);
}

#[tokio::test]
async fn what_was_not_signed_here_or_is_for_others_is_refused() {
    let running = Running::with_tokens().await;
    let other = Running::with_tokens().await;
    let foreign = other.token("default", json!({})).await;
    let elsewhere = running.token("default", json!({ "audiences": ["vault"] })).await;
    let good = running.token("default", json!({})).await;
    let (head, signature) = good.rsplit_once('.').unwrap();
    let mut claims = claims(&good);
    claims["kubernetes.io"]["namespace"] = "kube-system".into();
    let header = head.split_once('.').unwrap().0;
    let forged = format!(
        "{header}.{}.{signature}",
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    for bad in [foreign.as_str(), &elsewhere, &forged, "nonsense"] {
        let refused = running.with_token(bad).get(PODS).await;
        assert_eq!(refused.code, 401, "{bad}");
        assert_eq!(refused.body["reason"], "Unauthorized");
    }
    assert_eq!(who(&running.with_token(&good)).await.0, 201);
}

/// Signs claims with the server's own key.
fn sign(running: &Running, claims: &Value) -> String {
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject;
    let pem = std::fs::read(running.dir.path().join("sa.key")).unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).unwrap();
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &random).unwrap();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
    let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = pair.sign(&random, text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let running = Running::with_tokens().await;
    let good = claims(&running.token("default", json!({})).await);
    assert_eq!(who(&running.with_token(&sign(&running, &good))).await.0, 201);
    let mut expired = good.clone();
    expired["exp"] = (good["iat"].as_i64().unwrap() - 1).into();
    assert_eq!(who(&running.with_token(&sign(&running, &expired))).await.0, 401);
    let mut early = good.clone();
    early["nbf"] = (good["iat"].as_i64().unwrap() + 3000).into();
    assert_eq!(who(&running.with_token(&sign(&running, &early))).await.0, 401);
    let mut other = good;
    other["iss"] = "https://elsewhere".into();
    assert_eq!(who(&running.with_token(&sign(&running, &other))).await.0, 401);
}

#[tokio::test]
async fn a_review_says_whom_a_token_speaks_for() {
    let running = Running::with_tokens().await;
    let admin = running.raw();
    let token = running
        .token("default", json!({ "audiences": ["vault", "other"] }))
        .await;
    let review = |audiences: Value| json!({ "spec": { "token": token, "audiences": audiences } });
    let good = admin.post(REVIEWS, &review(json!(["vault"]))).await;
    assert_eq!(good.code, 201);
    assert_eq!(good.body["status"]["authenticated"], true);
    assert_eq!(good.body["status"]["audiences"], json!(["vault"]));
    assert_eq!(
        good.body["status"]["user"]["username"],
        "system:serviceaccount:default:default"
    );
    let bad = admin.post(REVIEWS, &review(json!(null))).await;
    assert_eq!(bad.body["status"]["authenticated"], Value::Null);
    assert!(
        bad.body["status"]["error"].as_str().unwrap().contains("audience"),
        "{}",
        bad.body
    );
    assert_eq!(admin.post(REVIEWS, &json!({ "spec": {} })).await.code, 422);
    let stranger = Raw(running.client("jane", "dev"));
    assert_eq!(stranger.post(REVIEWS, &review(json!(null))).await.code, 403);
}

#[tokio::test]
async fn others_can_check_tokens_by_the_published_keys() {
    let running = Running::with_tokens().await;
    let raw = running.with_token(&running.token("default", json!({})).await);
    let document = raw.get("/.well-known/openid-configuration").await;
    assert_eq!(document.body["issuer"], ISSUER);
    assert_eq!(
        document.body["jwks_uri"],
        "https://server.test:6443/openid/v1/jwks"
    );
    let keys = raw.get("/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    let key = &keys.body["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"]),
        (&json!("EC"), &json!("P-256"), &json!("ES256"))
    );
    let header = running.token("default", json!({})).await;
    let header = URL_SAFE_NO_PAD.decode(header.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["kid"], key["kid"]);
    assert_eq!(Raw(running.stranger()).get("/openid/v1/jwks").await.code, 403);
}

#[tokio::test]
async fn a_certificate_counts_before_a_token_and_a_bad_token_is_not_nobody() {
    let running = Running::with_tokens().await;
    let raw = Raw(running.over_tls("jane", "dev").await);
    let bearer = [("authorization", "Bearer nonsense")];
    let answer = raw.send("POST", WHO, &bearer, "{}").await;
    assert_eq!(answer.body["status"]["userInfo"]["username"], "jane");
    assert_eq!(running.with_token("nonsense").get("/healthz").await.code, 401);
}

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn token_secret(name: &str, account: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": { "name": name, "annotations": { "kubernetes.io/service-account.name": account } } })
}

/// What a condition holds of, once it does.
async fn until(raw: &Raw, path: &str, holds: impl Fn(u16, &Value) -> bool) -> Value {
    for _ in 0..200 {
        let answer = raw.get(path).await;
        if holds(answer.code, &answer.body) {
            return answer.body;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{path} stays as it is: {}", raw.get(path).await.body);
}

#[tokio::test]
async fn a_secret_gets_a_token_that_lasts_as_long_as_it_and_its_account() {
    let running = Running::with_tokens().await;
    running.account("robot").await;
    let admin = running.raw();
    assert_eq!(
        admin.post(SECRETS, &token_secret("kept", "robot")).await.code,
        201
    );
    let authority = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "kube-root-ca.crt" },
        "data": { "ca.crt": "PEM" } });
    // It waits for the namespace's authority.
    assert_eq!(
        admin.post(crate::support::CONFIG_MAPS, &authority).await.code,
        201
    );
    let path = format!("{SECRETS}/kept");
    let filled = |_: u16, secret: &Value| secret["data"]["token"].is_string();
    let secret = until(&admin, &path, filled).await;
    let decode = |key: &str| {
        let text = secret["data"][key].as_str().unwrap();
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
    };
    assert_eq!(
        (decode("ca.crt"), decode("namespace")),
        ("PEM".into(), "default".into())
    );
    let token = decode("token");
    let found = claims(&token);
    assert_eq!(found["iss"], "kubernetes/serviceaccount");
    assert_eq!(found["kubernetes.io/serviceaccount/secret.name"], "kept");
    assert_eq!(found.get("exp"), None);
    let raw = running.with_token(&token);
    let (code, user) = who(&raw).await;
    assert_eq!(
        (code, &user["username"]),
        (201, &json!("system:serviceaccount:default:robot"))
    );

    // Another Secret of that name has another token, even if it holds the same text no more.
    admin.delete(&path, &Value::Null).await;
    assert_eq!(who(&raw).await.0, 401);
    assert_eq!(
        admin.post(SECRETS, &token_secret("kept", "robot")).await.code,
        201
    );
    until(&admin, &path, filled).await;
    // Tokens of the same Secret and account say the same, but are signed anew.
    assert_eq!(who(&raw).await.0, 401);

    // It goes with its account, and doesn't stay without one.
    admin.delete(&format!("{ACCOUNTS}/robot"), &Value::Null).await;
    until(&admin, &path, |code, _| code == 404).await;
    assert_eq!(
        admin.post(SECRETS, &token_secret("lost", "nobody")).await.code,
        201
    );
    until(&admin, &format!("{SECRETS}/lost"), |code, _| code == 404).await;
}
