//! `sidecar init`: what it arms is root's, whoever the proxy is.

use std::os::unix::fs::MetadataExt;

use sidecar_tests::{
    Cgroup, Config, DEADLINE, Finished, Footprint, Init, Kind, Mode, PEER4, Pair, binary, eventually,
    in_modes, probe, rules, serve,
};

use crate::captured;

const DIAL: [&str; 4] = ["connect", PEER4, "9000", "--read"];

/// What the proxy's user can do in the instance's directory: make its socket in a place of its own. `detach` acts on
/// what root wrote down, and follows no link.
fn detach_trusts_root_only(mode: Mode) {
    let net = Pair::new("root");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let init = Init::arm(&net.pod, &Config::new(mode), &[]);
    let directory = init.directory();
    let state = directory.join("instance.json");
    for path in [&directory, &state] {
        let metadata = std::fs::metadata(path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o022), (0, 0), "{}", path.display());
    }
    assert_eq!(std::fs::metadata(directory.join("proxy")).unwrap().uid(), Init::PROXY);

    let written = std::fs::read(&state).unwrap();
    let victim = tempfile::tempdir().unwrap();
    std::fs::write(victim.path().join("kept"), "kept").unwrap();
    let attack = |script: &str| {
        let mut shell = init.beside().as_uid(Init::PROXY).command("sh");
        let args = ["-c", script, "sh", victim.path().to_str().unwrap()];
        Finished::of(shell.args(args).current_dir(&directory))
    };
    for script in [
        "echo {} > instance.json",
        "rm -f instance.json",
        "mv proxy elsewhere",
        "rmdir proxy",
        "rm -f control.sock",
        "ln -s $1 other",
    ] {
        assert!(!attack(script).status.success(), "{script}");
    }
    attack("ln -s $1 proxy/directory && ln -s $1/kept proxy/control.sock").success();
    assert_eq!(std::fs::read(&state).unwrap(), written);

    let armed = Footprint::of(init.name(), 0, &net.pod);
    assert!(!armed.links.is_empty() && armed.directory, "{armed:?}");
    let proxy = init.proxy();
    eventually(DEADLINE, "the proxy to take over", || captured(&probe(&init.app(), &DIAL)).then_some(()));
    assert!(init.detach().success().contains(init.name()));
    drop(proxy);
    eventually(DEADLINE, "everything to be gone", || {
        (armed.remains(init.name()) == Footprint::default()).then_some(())
    });
    assert_eq!(rules(&net.pod), Vec::<String>::new());
    assert!(!captured(&probe(&init.app(), &DIAL)));
    assert_eq!(std::fs::read_to_string(victim.path().join("kept")).unwrap(), "kept");
    assert!(!init.detach().status.success(), "there is nothing left to detach");
}
in_modes!(detach_trusts_root_only: Ebpf);

/// A program of another user that takes the proxy's port first does not get its connections.
fn port_taken_by_another_user(mode: Mode) {
    let net = Pair::new("impostor");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let init = Init::arm(&net.pod, &Config::new(mode).with("interception.onProxyDown", "open"), &[]);
    let impostor = serve(&init.app(), Kind::Peername, "127.0.0.1:15001");
    let seen = probe(&init.app(), &DIAL);
    assert_eq!(seen["reply"]["getsockname"], crate::at(PEER4, 9000));
    assert!(!captured(&seen), "{seen}");
    drop(impostor);
    let _proxy = init.proxy();
    eventually(DEADLINE, "the proxy to take over", || captured(&probe(&init.app(), &DIAL)).then_some(()));
}
in_modes!(port_taken_by_another_user: Ebpf);

/// Who may not see which sockets the programs have is told so, rather than to miss what listens already.
fn listeners_out_of_sight(_: Mode) {
    let net = Pair::new("blind");
    let cgroup = Cgroup::new("blind");
    let app = net.pod.place().in_cgroup(cgroup.path()).as_user("nobody");
    let _server = serve(&app, Kind::Echo, "0.0.0.0:9000");
    let name = format!("blind-{}", net.pod.inode());
    for lost in ["-dac_override,-dac_read_search", "-sys_ptrace"] {
        let mut command = net.pod.place().command("setpriv");
        command.args(["--bounding-set", lost, "--"]).arg(binary()).args(["init", "--name", &name]);
        let refused = Finished::of(command.arg("--cgroup").arg(cgroup.path()));
        assert!(
            !refused.status.success() && refused.stderr.contains("CAP_SYS_PTRACE"),
            "{lost}: {refused:?}"
        );
        assert_eq!(Footprint::of(&name, 0, &net.pod), Footprint::default());
    }
}
in_modes!(listeners_out_of_sight: Ebpf);
