//! What the sidecar says of a connection.

use std::net::SocketAddr;

use serde_json::Value;

/// A connection object of `sidecar connections -o json`.
#[derive(Clone, Debug)]
pub struct Connection(Value);

impl Connection {
    /// The objects of a list.
    #[track_caller]
    pub fn list(json: &str) -> Vec<Self> {
        match serde_json::from_str(json) {
            Ok(Value::Array(connections)) => connections.into_iter().map(Self).collect(),
            other => panic!("expected a list of connections, got {other:?} from {json:?}"),
        }
    }

    /// A field as JSON.
    #[track_caller]
    pub fn field(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    /// A string field.
    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        self.field(name).as_str().unwrap_or_else(|| panic!("{name} is no string in {}", self.0))
    }

    /// A numeric field.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        self.field(name).as_u64().unwrap_or_else(|| panic!("{name} is no number in {}", self.0))
    }

    /// An address field, [`canonical`].
    #[track_caller]
    pub fn address(&self, name: &str) -> SocketAddr {
        let text = self.text(name);
        canonical(text).unwrap_or_else(|| panic!("{name} is no address in {}", self.0))
    }

    /// Whether it goes `direction` (`inbound`, `outbound`) and was meant for `destination`.
    #[track_caller]
    pub fn is(&self, direction: &str, destination: &str) -> bool {
        let meant = self.field("originalDestination").as_str().and_then(canonical);
        self.text("direction") == direction && meant.is_some() && meant == canonical(destination)
    }
}

/// The address that `ip:port` or `[ip]:port` says; a v4-mapped one as the IPv4 address that it stands for.
pub fn canonical(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_told_as_what_they_stand_for() {
        let json = r#"[{"direction": "outbound", "originalDestination": "[::ffff:10.7.0.2]:80", "pid": 7}]"#;
        let [connection] = &Connection::list(json)[..] else { panic!("one connection") };
        assert!(connection.is("outbound", "10.7.0.2:80"));
        assert!(!connection.is("inbound", "10.7.0.2:80"));
        assert!(!connection.is("outbound", "10.7.0.2:81"));
        assert_eq!(connection.number("pid"), 7);
    }
}
