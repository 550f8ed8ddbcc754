//! Autobahn's suite for WebSocket: its verdicts on a server through the sidecar are those on the server itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sidecar_tests::{Mode, Place, Program, require, tool};

use super::scripted::PORT;
use super::tunnels::websocket_server;
use super::{Http, Way, by_every_way};

/// Cases of each family, but for those of compression, which are about what is in the messages.
const CASES: [&str; 13] =
    ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.*", "9.2.*", "9.5.6", "9.7.6", "9.8.6", "10.*"];

/// These wait for seconds, or send many megabytes.
const LEFT_OUT: [&str; 9] = ["6.4.2", "6.4.3", "6.4.4", "9.1.4", "9.1.5", "9.1.6", "9.2.4", "9.2.5", "9.2.6"];

/// Far more than all cases take.
const PATIENCE: Duration = Duration::from_secs(90);

/// How the cases end for a client at `place`, by their numbers.
#[track_caller]
fn verdicts(place: &Place, (host, port): (&str, u16), results: &Path) -> BTreeMap<String, String> {
    let specification = results.with_extension("json");
    let url = format!("ws://{host}:{port}/echo");
    let wanted = json!({
        "outdir": results,
        "servers": [{"agent": "server", "url": url}],
        "cases": CASES,
        "exclude-cases": LEFT_OUT,
        "exclude-agent-cases": {},
    });
    std::fs::write(&specification, wanted.to_string()).unwrap();
    let wstest = tool("autobahn", "wstest").unwrap();
    let mut command = place.command(&wstest);
    command.env("PYTHONUSERBASE", wstest.ancestors().nth(2).unwrap());
    let mut suite = Program::start(command.args(["--mode", "fuzzingclient", "--spec"]).arg(specification));
    let finished = suite.wait_for(PATIENCE);
    let index = std::fs::read_to_string(results.join("index.json"));
    let index: Value =
        serde_json::from_str(&index.unwrap_or_else(|error| panic!("{error}: {finished:?}"))).unwrap();
    let cases = index["server"].as_object().unwrap();
    cases.iter().map(|(number, case)| (number.clone(), verdict(case))).collect()
}

/// Whether a server hears of a bad frame before it has answered a good one, which makes it less strict, is a matter of how
/// their bytes come in.
fn verdict(case: &Value) -> String {
    let behaviour = case["behavior"].as_str().unwrap().replace("NON-STRICT", "OK");
    format!("{behaviour} {} {}", case["behaviorClose"], case["remoteCloseCode"])
}

fn suite(way: Way, mode: Mode) {
    require!(optional @ tool("autobahn", "wstest"));
    require!(@ tool("websockets", "python"));
    let http = Http::before(PORT, way, mode, |config| config);
    let _server = websocket_server(&http);
    let direct = verdicts(&http.netns().place(), ("127.0.0.1", PORT), &http.logs.path().join("direct"));
    let through = verdicts(&http.from(), way.reached(PORT), &http.logs.path().join("through"));
    let good = direct.values().filter(|verdict| verdict.starts_with("OK")).count();
    assert!(good > 200, "{good} of {} are good without the sidecar: {direct:#?}", direct.len());
    let other = direct.iter().filter(|(number, verdict)| through.get(*number) != Some(verdict));
    let other: Vec<_> = other.map(|(number, verdict)| (number, verdict, through.get(number))).collect();
    assert!(other.is_empty(), "number, without and with the sidecar: {other:#?}");
    assert_eq!(direct.len(), through.len());
}
by_every_way!(suite: Ebpf);
