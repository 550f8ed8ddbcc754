//! Who may ask, how much, and what is made to go wrong.

mod external;
mod fault;
mod guarded;
mod jwt;
mod rate_limit;
mod rotation;
mod rules;
mod targets;

use serde_json::{Value, json};
use sidecar_tests::{Finished, Mode, Place, python};

use super::Way;
use super::documents::{backend, route, to};
use super::scene::{BACKENDS, Scene};

const ISSUER: &str = "https://issuer.example.com";

/// All requests go to one server, and these policies are said of them.
#[track_caller]
fn started(way: Way, mode: Mode, policies: impl IntoIterator<Item = Value>) -> Scene {
    Scene::start(way, mode, routed(way).into_iter().chain(policies))
}

fn routed(way: Way) -> [Value; 2] {
    let rules = json!([{"backendRefs": [to("app")]}]);
    [backend("app", &BACKENDS[..1]), route("HTTPRoute", "all", way.parent(), rules)]
}

/// Keys, and tokens that are signed by them: `programs/tokens.py`.
struct Tokens(Value);

impl Tokens {
    #[track_caller]
    fn new(keys: Value, tokens: Value) -> Self {
        let asked = json!({"keys": keys, "tokens": tokens}).to_string();
        let made = Finished::of(python(&Place::default(), "tokens.py").arg(asked)).success();
        Self(serde_json::from_str(&made).unwrap())
    }

    /// The key set of these keys.
    fn keys(&self, names: &[&str]) -> String {
        let keys: Vec<_> = names.iter().map(|name| &self.0["keys"][name]).collect();
        json!({"keys": keys}).to_string()
    }

    /// A token, as it stands in `authorization`.
    fn bearer(&self, name: &str) -> String {
        let token = self.0["tokens"][name].as_str().unwrap_or_else(|| panic!("no token {name}"));
        format!("Bearer {token}")
    }
}

/// Claims that are good for an hour.
fn claims(more: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": "web", "sub": "ann", "exp": 3600});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}
