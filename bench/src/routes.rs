//! The configuration of routes that are compared with each other: of one Service, whose cluster IP is where clients go anyway.

use crate::mode::Mode;
use crate::token::Token;

/// Where the server listens: at the endpoints of both configurations, which name its port.
pub(crate) const SERVER: &str = "0.0.0.0:80";

/// Where a request is refused that has no token, and passed on where there are no policies.
pub(crate) const URL: &str = "http://127.0.0.1:80/small";

/// How requests of the route are counted.
pub(crate) const LABEL: &str = "route=\"default/bench/0\"";

/// Documents beside the `ProxyConfig` of this mode.
pub(crate) fn documents(mode: Mode, token: &Token) -> Option<String> {
    match mode {
        Mode::Route => Some(include_str!("../programs/route.yaml").to_owned()),
        Mode::Policies => {
            // A string of JSON is one of YAML.
            let keys = serde_json::Value::from(token.keys.as_str()).to_string();
            Some(include_str!("../programs/policies.yaml").replace("KEYS", &keys))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_the_key_set_and_the_plain_route_has_none() {
        let token = Token { text: String::new(), keys: r#"{"keys": []}"#.to_owned() };
        let policies = documents(Mode::Policies, &token).unwrap();
        assert!(policies.contains(r#"jwks: {inline: "{\"keys\": []}"}"#), "{policies}");
        assert!(!documents(Mode::Route, &token).unwrap().contains("AccessPolicy"));
        assert_eq!(documents(Mode::Ebpf, &token), None);
    }
}
