//! An unmodified proxy behind the kernel half: Envoy asks `SO_ORIGINAL_DST` as behind netfilter.

use serde_json::Value;
use sidecar_tests::{
    Config, Envoy, Finished, Init, Mode, PEER4, Pair, Place, http_server, in_modes, require,
};

fn fetch(place: &Place, url: &str) -> String {
    Finished::of(place.command("curl").args(["-sS", "--fail", "--max-time", "10", url])).success()
}

fn serves_what_is_captured(mode: Mode) {
    require!(envoy);
    let net = Pair::new("envoy");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("page"), "the page").unwrap();
    let _server = http_server(&net.peer, &net.peer.place(), 8000, directory.path());
    let config = Config::new(mode).with("ports.outbound", Envoy::OUTBOUND);
    let init = Init::arm(&net.pod, &config, &["--mark", "1337"]);
    let _envoy = Envoy::start(&net.pod, &init.beside());
    let connections = || -> u64 {
        let stats = format!("http://127.0.0.1:{}/stats?format=json&filter=", Envoy::ADMIN);
        let stats = fetch(&net.pod.place(), &(stats + "^tcp.outbound.downstream_cx_total$"));
        let stats: Value = serde_json::from_str(&stats).unwrap();
        stats["stats"][0]["value"].as_u64().unwrap_or_else(|| panic!("no such counter: {stats}"))
    };
    let before = connections();
    let page = format!("http://{PEER4}:8000/page");
    assert_eq!(fetch(&init.app(), &page), "the page");
    assert_eq!(connections(), before + 1);
    // Who is not armed is not Envoy's.
    assert_eq!(fetch(&net.pod.place(), &page), "the page");
    assert_eq!(connections(), before + 1);
}
in_modes!(serves_what_is_captured: Ebpf);
