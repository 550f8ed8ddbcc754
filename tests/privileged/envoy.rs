//! An unmodified proxy behind the kernel half: Envoy asks `SO_ORIGINAL_DST` as behind netfilter.

use serde_json::Value;
use sidecar_tests::{
    Config, Envoy, Finished, Init, Mode, PEER4, POD4, Pair, Place, http_server, in_modes, require,
};

fn fetch(place: &Place, url: &str) -> String {
    Finished::of(place.command("curl").args(["-sS", "--fail", "--max-time", "10", url])).success()
}

/// How many connections a listener of Envoy's has taken.
fn taken(net: &Pair, listener: &str) -> u64 {
    let stats = format!("http://127.0.0.1:{}/stats?format=json&filter=", Envoy::ADMIN);
    let stats = fetch(&net.pod.place(), &(stats + &format!("^tcp.{listener}.downstream_cx_total$")));
    let stats: Value = serde_json::from_str(&stats).unwrap();
    stats["stats"][0]["value"].as_u64().unwrap_or_else(|| panic!("no such counter: {stats}"))
}

fn pages() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("page"), "the page").unwrap();
    directory
}

/// Exempt by its mark.
fn serves_what_is_captured(mode: Mode) {
    require!(envoy);
    let (net, pages) = (Pair::new("envoy"), pages());
    let _server = http_server(&net.peer, &net.peer.place(), 8000, pages.path());
    let config = Config::new(mode).with("ports.outbound", Envoy::OUTBOUND);
    let init = Init::arm(&net.pod, &config, &["--mark", "1337"]);
    let _envoy = Envoy::start(&net.pod, &init.beside());
    let before = taken(&net, "outbound");
    let page = format!("http://{PEER4}:8000/page");
    assert_eq!(fetch(&init.app(), &page), "the page");
    assert_eq!(taken(&net, "outbound"), before + 1);
    // Who is not armed is not Envoy's.
    assert_eq!(fetch(&net.pod.place(), &page), "the page");
    assert_eq!(taken(&net, "outbound"), before + 1);
}
in_modes!(serves_what_is_captured: Ebpf);

/// Exempt by its user.
fn serves_what_is_steered(mode: Mode) {
    require!(envoy);
    let (net, pages) = (Pair::new("steered"), pages());
    let init = Init::arm(&net.pod, &Config::new(mode), &["--uid", "0"]);
    let _envoy = Envoy::start(&net.pod, &init.beside());
    let _server = http_server(&net.pod, &init.app(), 8001, pages.path());
    let before = taken(&net, "inbound");
    assert_eq!(fetch(&net.peer.place(), &format!("http://{POD4}:8001/page")), "the page");
    assert_eq!(taken(&net, "inbound"), before + 1);
}
in_modes!(serves_what_is_steered: Ebpf);
