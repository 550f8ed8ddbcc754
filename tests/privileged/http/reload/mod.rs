//! The configuration changes while requests are served.

mod in_flight;
mod keeps;
mod load;
mod refused;

use serde_json::{Value, json};

use super::Way;
use super::documents::{backend, route, to};

/// The header of answers that says by which version of the configuration they were given.
const GENERATION: &str = "x-generation";

/// All requests go to `app`, and their answers say which version this is.
fn version(way: Way, generation: u32, ports: &[u16]) -> [Value; 2] {
    let said = json!([{"name": GENERATION, "value": generation.to_string()}]);
    let filter = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": said}});
    let rules = json!([{"filters": [filter], "backendRefs": [to("app")]}]);
    [backend("app", ports), route("HTTPRoute", "all", way.parent(), rules)]
}
