//! On the real kernel, in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Uid;
use socket2::{Domain, SockRef, Socket, Type};

use super::rules::{self, Chains, Family};
use super::{Exempt, IptablesError, Spec, apply, available, install, install_text, remove_instance};

const DEADLINE: Duration = Duration::from_secs(10);
const MARK: u32 = 1337;
const POD: [&str; 2] = ["198.51.100.1", "2001:db8::1"];
const PEER: [&str; 2] = ["198.51.100.2", "2001:db8::2"];
/// Beyond the peer: nobody answers there.
const FAR: [&str; 2] = ["203.0.113.7", "2001:db8:f::7"];
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
const ANY: [&str; 2] = ["0.0.0.0", "::"];

/// A namespace with the addresses `POD`, joined to one with the addresses `PEER`.
struct Pod {
    peer: File,
}

/// A cgroup2, gone when dropped.
struct Cgroup {
    directory: PathBuf,
    /// From the root of the hierarchy.
    path: String,
}

// === the rules at work ===

#[test]
fn outbound_is_captured_and_loopback_is_not() {
    in_pod(|_| {
        let before = listing();
        let rules = install(&spec("web")).unwrap();
        assert_eq!(rules.ipv6_skipped(), None);
        for family in 0..2 {
            let proxy = listen(LOOPBACK[family], 15001);
            let local = listen(LOOPBACK[family], 8080);
            let far = address(FAR[family], 443);

            let mut client = connect(far);
            let (mut accepted, _) = accept(&proxy);
            assert_eq!(original_destination(&accepted), far);
            assert_eq!(client.peer_addr().unwrap(), far);
            accepted.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();

            let client = connect(address(LOOPBACK[family], 8080));
            assert_eq!(accept(&local).1, client.local_addr().unwrap());
        }
        rules.remove().unwrap();
        assert_eq!(listing(), before);
        assert!(!remove_instance("web").unwrap());
    });
}

#[test]
fn loopback_is_captured_on_request_and_marked_sockets_pass() {
    in_pod(|_| {
        let rules = install(&Spec { capture_loopback: true, ..spec("loop") }).unwrap();
        for loopback in LOOPBACK {
            let proxy = listen(loopback, 15001);
            let local = listen(loopback, 8080);
            let target = address(loopback, 8080);

            let _client = connect(target);
            assert_eq!(original_destination(&accept(&proxy).0), target);
            let own = connect_marked(target);
            assert_eq!(accept(&local).1, own.local_addr().unwrap());
        }
        rules.remove().unwrap();
    });
}

#[test]
fn inbound_is_captured_but_for_excluded_ports_and_the_proxy_itself() {
    in_pod(|pod| {
        let spec = Spec { inbound_port: Some(15006), exclude_inbound_ports: vec![9901], ..spec("in") };
        let rules = install(&spec).unwrap();
        for family in 0..2 {
            let proxy = listen(ANY[family], 15006);
            let app = listen(POD[family], 8080);
            let target = address(POD[family], 8080);

            let client = pod.at_peer(|| connect(target));
            let (accepted, peer) = accept(&proxy);
            assert_eq!(original_destination(&accepted), target);
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(peer.ip(), PEER[family].parse::<IpAddr>().unwrap());

            // The proxy calls the program at the Pod's own address, over lo.
            let own = connect_marked(target);
            assert_eq!(accept(&app).1, own.local_addr().unwrap());

            for untouched in [9901, 22, 15090] {
                let listener = listen(POD[family], untouched);
                let client = pod.at_peer(|| connect(address(POD[family], untouched)));
                assert_eq!(accept(&listener).1, client.local_addr().unwrap());
            }
        }
        rules.remove().unwrap();
    });
}

#[test]
fn inbound_takes_only_listed_ports() {
    in_pod(|pod| {
        let spec = Spec { inbound_port: Some(15006), include_inbound_ports: vec![22], ..spec("only") };
        let _rules = install(&spec).unwrap();
        for family in 0..2 {
            let proxy = listen(ANY[family], 15006);
            let other = listen(POD[family], 8080);

            let _client = pod.at_peer(|| connect(address(POD[family], 22)));
            assert_eq!(original_destination(&accept(&proxy).0), address(POD[family], 22));
            let client = pod.at_peer(|| connect(address(POD[family], 8080)));
            assert_eq!(accept(&other).1, client.local_addr().unwrap());
        }
    });
}

#[test]
fn what_is_only_forwarded_is_not_inbound() {
    in_pod(|pod| {
        let _rules = install(&Spec { inbound_port: Some(15006), ..spec("router") }).unwrap();
        for family in 0..2 {
            let _proxy = listen(ANY[family], 15006);
            let error = pod.at_peer(|| {
                ip(&format!("route add {} via {}", FAR[family], POD[family]));
                TcpStream::connect_timeout(&address(FAR[family], 8080), Duration::from_millis(200))
                    .unwrap_err()
            });
            // The Pod does not forward.
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
    });
}

#[test]
fn a_cgroup_is_the_scope_and_another_is_exempt() {
    in_pod(|_| {
        let Some(instance) = Cgroup::new("scope") else { return };
        let [app, nested, proxy] = ["app", "app/worker", "app/proxy"].map(|name| instance.child(name));
        let spec = Spec {
            exempt: Exempt::Cgroup(proxy.path.clone()),
            scope: Some(app.path.clone()),
            ..spec("cgroup")
        };
        let rules = install(&spec).unwrap();
        for family in 0..2 {
            let captured = listen(LOOPBACK[family], 15001);
            let direct = listen(POD[family], 8080);
            let target = address(POD[family], 8080);

            for cgroup in [&app, &nested] {
                run_connect(target, Command::new("bash"), Some(cgroup));
                assert_eq!(original_destination(&accept(&captured).0), target);
            }
            for cgroup in [&proxy, &instance] {
                run_connect(target, Command::new("bash"), Some(cgroup));
                accept(&direct);
            }
            run_connect(target, Command::new("bash"), None);
            accept(&direct);
        }
        rules.remove().unwrap();
    });
}

#[test]
fn a_user_is_exempt() {
    in_pod(|_| {
        let rules = install(&Spec { exempt: Exempt::Uid(1337), ..spec("user") }).unwrap();
        for family in 0..2 {
            let captured = listen(LOOPBACK[family], 15001);
            let direct = listen(POD[family], 8080);
            let target = address(POD[family], 8080);

            let mut bash = Command::new("bash");
            bash.uid(1337);
            run_connect(target, bash, None);
            accept(&direct);
            let _client = connect(target);
            assert_eq!(original_destination(&accept(&captured).0), target);
        }
        rules.remove().unwrap();
    });
}

#[test]
fn destinations_and_ports_select_together() {
    in_pod(|_| {
        let spec = Spec {
            include_cidrs: [FAR[0], FAR[1]].map(|ip| ip.parse::<IpAddr>().unwrap().into()).into(),
            exclude_cidrs: POD.map(|ip| ip.parse::<IpAddr>().unwrap().into()).into(),
            include_outbound_ports: vec![80, 443],
            exclude_outbound_ports: vec![443],
            ..spec("lists")
        };
        let _rules = install(&spec).unwrap();
        for family in 0..2 {
            let captured = listen(LOOPBACK[family], 15001);
            let direct = listen(POD[family], 80);

            let _client = connect(address(FAR[family], 80));
            assert_eq!(original_destination(&accept(&captured).0), address(FAR[family], 80));
            let client = connect(address(POD[family], 80));
            assert_eq!(accept(&direct).1, client.local_addr().unwrap());
            for port in [443, 81] {
                let error =
                    TcpStream::connect_timeout(&address(FAR[family], port), Duration::from_millis(100))
                        .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut, "port {port} is nobody's");
            }
        }
    });
}

#[test]
fn established_connections_stay_as_they_are() {
    in_pod(|pod| {
        for ip in POD {
            let app = listen(ip, 8080);
            let mut client = pod.at_peer(|| connect(address(ip, 8080)));
            let mut served = accept(&app).0;
            let mut own = connect(address(ip, 8080));
            let mut own_served = accept(&app).0;

            let rules = install(&Spec { inbound_port: Some(15006), ..spec("late") }).unwrap();
            for stream in [&mut client, &mut served, &mut own, &mut own_served] {
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.write_all(b"x").unwrap();
            }
            for stream in [&mut client, &mut served, &mut own, &mut own_served] {
                stream.read_exact(&mut [0]).unwrap();
            }
            rules.remove().unwrap();
        }
    });
}

#[test]
fn a_service_address_is_seen_before_it_is_translated() {
    in_pod(|_| {
        let service = address(FAR[0], 80);
        let translate = format!("-A OUTPUT -d {} -p tcp -j DNAT --to-destination {}:8080", FAR[0], POD[0]);
        apply::restore(Family::V4, &format!("*nat\n{translate}\nCOMMIT\n")).unwrap();
        let _rules = install(&spec("service")).unwrap();
        let proxy = listen("127.0.0.1", 15001);
        let endpoint = listen(POD[0], 8080);

        let _client = connect(service);
        assert_eq!(original_destination(&accept(&proxy).0), service);
        let own = connect_marked(service);
        assert_eq!(accept(&endpoint).1, own.local_addr().unwrap());
    });
}

#[test]
fn without_a_proxy_connections_are_refused() {
    in_pod(|_| {
        let _rules = install(&spec("gone")).unwrap();
        for far in FAR {
            let error = TcpStream::connect_timeout(&address(far, 80), DEADLINE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
    });
}

// === coming and going ===

#[test]
fn instances_do_not_disturb_each_other() {
    in_pod(|_| {
        let before = listing();
        let one = |index: u16| Spec {
            outbound_port: 15100 + index,
            include_outbound_ports: vec![80 + index],
            ..spec(&format!("many-{index}"))
        };
        thread::scope(|scope| {
            for index in 0..4 {
                scope.spawn(move || install(&one(index)).unwrap().remove().unwrap());
            }
        });
        assert_eq!(listing(), before);

        let first = install(&one(0)).unwrap();
        let alone = listing();
        let second = install(&one(1)).unwrap();
        for (index, proxy) in [(0, listen("127.0.0.1", 15100)), (1, listen("127.0.0.1", 15101))] {
            let far = address(FAR[0], 80 + index);
            let _client = connect(far);
            assert_eq!(original_destination(&accept(&proxy).0), far);
        }
        drop(second);
        assert_eq!(listing(), alone);
        drop(first);
        assert_eq!(listing(), before);
    });
}

#[test]
fn leftovers_are_replaced_and_removed() {
    in_pod(|_| {
        let before = listing();
        let spec = Spec { inbound_port: Some(15006), ..spec("left") };
        let rules = install(&spec).unwrap();
        let installed = listing();

        // More jumps than we wrote, as when somebody restores an edited listing.
        let chain = "SIDECAR_left_OUT";
        for jump in ["OUTPUT -p tcp", "OUTPUT -p tcp", "OUTPUT -d 192.0.2.1"] {
            apply::restore(Family::V4, &format!("*nat\n-A {jump} -j {chain}\nCOMMIT\n")).unwrap();
        }
        std::mem::forget(rules);
        let rules = install(&spec).unwrap();
        assert_eq!(listing(), installed);
        std::mem::forget(rules);
        assert!(remove_instance("left").unwrap());
        assert_eq!(listing(), before);

        // Half of it.
        apply::restore(Family::V6, &format!("*nat\n:{chain} - [0:0]\nCOMMIT\n")).unwrap();
        assert_ne!(listing(), before);
        assert!(remove_instance("left").unwrap());
        assert!(!remove_instance("left").unwrap());
        assert_eq!(listing(), before);
    });
}

#[test]
fn one_family_refused_takes_back_the_other() {
    in_pod(|_| {
        let before = listing();
        let v4 = rules::install(&spec("half"), Family::V4).unwrap();
        let v6 = "*nat\n-A NO_SUCH_CHAIN -j RETURN\nCOMMIT\n";
        let error = install_text(Chains::of("half"), &v4, v6).unwrap_err();
        assert!(matches!(&error, IptablesError::Refused { program: "ip6tables-restore", .. }), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
        assert_eq!(listing(), before);
    });
}

#[test]
fn a_missing_cgroup_is_refused() {
    in_pod(|_| {
        let before = listing();
        let error = install(&Spec { scope: Some("no/such".into()), ..spec("nowhere") }).unwrap_err();
        assert!(error.to_string().starts_with("iptables-restore: nat table: "), "{error}");
        assert_eq!(listing(), before);
    });
}

#[test]
fn a_missing_program_has_a_remedy() {
    let error = apply::run("no-such-iptables-restore", &[], "").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no-such-iptables-restore: not found: install the iptables package, or use `interception: ebpf`"
    );
}

#[test]
fn trying_leaves_this_namespace_alone() {
    in_pod(|_| {
        let before = listing();
        let available = available().unwrap();
        assert!(available.version.starts_with("iptables-restore v"), "{available:?}");
        assert_eq!(available.ipv6_skipped, None);
        assert!(available.cgroup_match);
        assert_eq!(listing(), before);
    });
}

// === harness ===

fn spec(instance: &str) -> Spec {
    Spec { instance: instance.into(), inbound_port: None, ..Spec::probe(Exempt::Mark(MARK)) }
}

/// Runs `test` on a thread whose network namespace is a new Pod's.
fn in_pod(test: impl FnOnce(&Pod) + Send) {
    if !Uid::effective().is_root() {
        return skip("network namespaces need root");
    }
    if let Err(error @ IptablesError::Missing { .. }) = apply::version() {
        return skip(&error.to_string());
    }
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let peer = File::open("/proc/thread-self/ns/net").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let pod = Pod { peer };
        let namespace = format!("/proc/{}/fd/{}", process::id(), pod.peer.as_raw_fd());
        ip(&format!("link add eth0 type veth peer name eth0 netns {namespace}"));
        configure(POD);
        for router in PEER {
            ip(&format!("route add default via {router}"));
        }
        pod.at_peer(|| configure(PEER));
        test(&pod);
    });
}

fn configure([v4, v6]: [&str; 2]) {
    ip(&format!("address add {v4}/24 dev eth0"));
    ip(&format!("address add {v6}/64 dev eth0 nodad"));
    ip("link set lo up");
    ip("link set eth0 up");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn skip(why: &str) {
    #[expect(clippy::disallowed_methods, reason = "how CI says that a skip is a failure")]
    let required = std::env::var_os("REQUIRE_PRIVILEGED").is_some_and(|value| value == "1");
    assert!(!required, "{why}");
    eprintln!("skipped: {why}");
}

impl Pod {
    fn at_peer<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            setns(&self.peer, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

impl Cgroup {
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|mount| mount[2] == "cgroup2");
        let Some(mount) = mount else {
            skip("no cgroup2 is mounted");
            return None;
        };
        let path = format!("sidecar-iptables-test-{}-{name}", process::id());
        Some(Self::create(PathBuf::from(mount[1]).join(&path), path))
    }

    fn child(&self, name: &str) -> Self {
        Self::create(self.directory.join(name), format!("{}/{name}", self.path))
    }

    fn create(directory: PathBuf, path: String) -> Self {
        fs::create_dir(&directory).unwrap();
        Self { directory, path }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.directory) {
            eprintln!("{}: {error}", self.directory.display());
        }
    }
}

/// The rules and chains of both families, without comments and counters.
fn listing() -> Vec<String> {
    let saved = [Family::V4, Family::V6].map(|family| apply::save(family).unwrap()).concat();
    let lines = saved.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" [").next().unwrap().to_owned()).collect()
}

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// A listener of before may live on for a moment: a child of another test's thread has it until its exec().
fn listen(ip: &str, port: u16) -> TcpListener {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match TcpListener::bind(address(ip, port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::yield_now();
            }
            bound => return bound.unwrap(),
        }
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&to, DEADLINE).unwrap()
}

fn connect_marked(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.set_mark(MARK).unwrap();
    socket.connect_timeout(&to.into(), DEADLINE).unwrap();
    socket.into()
}

/// Connects from a process of its own, in `cgroup` if one is given.
fn run_connect(to: SocketAddr, mut bash: Command, cgroup: Option<&Cgroup>) {
    let procs = cgroup.map(|cgroup| cgroup.directory.join("cgroup.procs"));
    let script = r#"[ -z "$1" ] || echo $$ >"$1" || exit 2; exec 3<>"/dev/tcp/$2/$3""#;
    bash.args(["-c", script, "bash"]).arg(procs.unwrap_or_default());
    let status = bash.arg(to.ip().to_string()).arg(to.port().to_string()).status().unwrap();
    assert!(status.success(), "{to}: {status}");
}

/// The next connection, which has been made by now or soon will be.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    SockRef::from(listener).set_read_timeout(Some(DEADLINE)).unwrap();
    listener.accept().unwrap_or_else(|error| panic!("nobody came in {DEADLINE:?}: {error}"))
}

fn original_destination(accepted: &TcpStream) -> SocketAddr {
    let socket = SockRef::from(accepted);
    let address = match accepted.local_addr().unwrap() {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    address.unwrap().as_socket().unwrap()
}
