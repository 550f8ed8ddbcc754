//! A node without Kubernetes: the real agent, an API server that is a program, and Pods of a cgroup and a network
//! namespace each.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sidecar_tests::{
    Cgroup, Config, DEADLINE, Init, Netns, Pair, Place, Program, binary, binary_for_everyone, eventually,
    python,
};
use tempfile::TempDir;

const NODE: &str = "node-1";
const NAMESPACE: &str = "shop";

/// The node. Dropping it ends what runs, and undoes what is armed.
pub(crate) struct Node {
    api: RefCell<Program>,
    agent: RefCell<Option<Program>>,
    cgroup: Cgroup,
    files: TempDir,
}

/// A Pod of the node: whatever of it is there yet.
pub(crate) struct Pod<'a> {
    node: &'a Node,
    pub(crate) net: Pair,
    uid: String,
    object: RefCell<Value>,
    binary: PathBuf,
    config: PathBuf,
    _files: TempDir,
}

impl Node {
    /// With an API server that knows one namespace, and no agent yet.
    pub(crate) fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut api = Program::start(&mut python(&Place::default(), "api_server.py"));
        let said = api.wait_for_output("port ");
        let port: u16 = said.rsplit_once("port ").unwrap().1.trim().trim_end_matches('.').parse().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(files.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let node = Self { api: api.into(), agent: None.into(), cgroup: Cgroup::new("node"), files };
        node.enrol(false);
        node
    }

    /// Starts the agent, as a DaemonSet would.
    pub(crate) fn start_agent(&self) {
        let mut command = Place::default().command(binary());
        command.args(["--log", "info", "agent", "--node", NODE, "--state"]).arg(self.state());
        command.arg("--cgroup-root").arg(self.cgroup.path());
        command.env("KUBECONFIG", self.files.path().join("kubeconfig"));
        *self.agent.borrow_mut() = Some(Program::start(&mut command).ended_by(Signal::SIGTERM));
    }

    /// Ends it by this signal.
    pub(crate) fn end_agent(&self, signal: Signal) {
        let mut agent = self.agent.borrow_mut().take().unwrap();
        agent.signal(signal);
        agent.wait();
    }

    /// What it has said on its standard error.
    pub(crate) fn agent_said(&self) -> String {
        self.agent.borrow().as_ref().map(Program::stderr).unwrap_or_default()
    }

    /// Enrols the Pods of the namespace, or no longer.
    pub(crate) fn enrol(&self, enrolled: bool) {
        let labels = if enrolled { json!({"sidecar.dev/inject": "enabled"}) } else { json!({}) };
        self.tell(
            &json!({"put": "namespaces", "object": {"metadata": {"name": NAMESPACE, "labels": labels}}}),
        );
    }

    /// The API server cannot be reached any more, or can.
    pub(crate) fn api_is_down(&self, down: bool) {
        self.tell(&json!({"down": down}));
    }

    /// Where the agent writes down what is armed.
    pub(crate) fn state(&self) -> PathBuf {
        self.files.path().join("state")
    }

    fn tell(&self, order: &Value) {
        self.api.borrow_mut().say(&format!("{order}\n"));
    }

    /// What was said of a Pod, a line of JSON each.
    fn said(&self) -> Vec<Value> {
        let said = self.api.borrow().stdout();
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent: {}\nthe API server: {}", self.agent_said(), self.api.borrow().stdout());
        }
        self.agent.borrow_mut().take();
        // What is still armed, or was left so by a scenario that failed: on a bpffs of its own, or on the machine's.
        for entry in std::fs::read_dir(self.state()).into_iter().flatten().flatten() {
            let _ = nix::mount::umount(&entry.path().join("bpf"));
            let pins = Path::new("/sys/fs/bpf/sidecar").join(entry.file_name());
            let _ = std::fs::remove_dir_all(pins);
        }
    }
}

impl<'a> Pod<'a> {
    /// In the API and on the node, with the proxy's container still to start.
    pub(crate) fn create(node: &'a Node, config: &Config, annotations: Value) -> Self {
        let (files, binary) = binary_for_everyone();
        let file = files.path().join("config.yaml");
        std::fs::write(&file, config.text()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let net = Pair::new("agent");
        // A UID that no other has: the namespace's number is one, for as long as it is there.
        let uid = format!("{:08x}-0000-4000-8000-{:012x}", std::process::id(), net.pod.inode());
        let object = json!({
            "metadata": {"name": "web", "namespace": NAMESPACE, "uid": uid, "annotations": annotations},
            "spec": {"nodeName": NODE, "containers": [{"name": "app"}, {"name": "sidecar-proxy"}]},
            "status": {"phase": "Pending"},
        });
        let pod = Self { node, net, uid, object: object.into(), binary, config: file, _files: files };
        for container in ["app", "proxy"] {
            std::fs::create_dir_all(pod.cgroup().join(container)).unwrap();
        }
        pod.put();
        pod
    }

    /// Starts its proxy, and says so in the API.
    pub(crate) fn start_proxy(&self) -> Program {
        self.start_proxy_in(self.container("proxy"))
    }

    /// The same in a container whose seccomp profile is the runtimes' default.
    pub(crate) fn start_proxy_without_bpf(&self) -> Program {
        self.start_proxy_in(self.container("proxy").without_bpf())
    }

    fn start_proxy_in(&self, place: Place) -> Program {
        let mut command = place.as_uid(Init::PROXY).command(&self.binary);
        command.args(["--log", "info", "proxy", "--armed-by", "agent", "--config"]).arg(&self.config);
        let proxy = Program::start(&mut command).ended_by(Signal::SIGTERM);
        let status = json!([{"name": "sidecar-proxy", "containerID": format!("c-{}", proxy.pid()),
            "restartCount": 0, "ready": false, "image": "i", "imageID": "i",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]);
        self.object.borrow_mut()["status"] = json!({"phase": "Running", "containerStatuses": status});
        self.put();
        proxy
    }

    /// Sets an annotation.
    pub(crate) fn annotate(&self, name: &str, value: &str) {
        self.object.borrow_mut()["metadata"]["annotations"][name] = value.into();
        self.put();
    }

    /// The API has it no more.
    pub(crate) fn delete(&self) {
        self.node.tell(&json!({"delete": "pods", "name": "web"}));
    }

    /// Where the application runs.
    pub(crate) fn app(&self) -> Place {
        self.container("app")
    }

    /// Its cgroup, which the kubelet would have made.
    pub(crate) fn cgroup(&self) -> PathBuf {
        self.node.cgroup.path().join(format!("kubepods/burstable/pod{}", self.uid))
    }

    /// Where its links are pinned.
    pub(crate) fn pins(&self) -> Option<PathBuf> {
        self.written()?["pins"].as_str().map(PathBuf::from)
    }

    /// What is written down of its arming.
    pub(crate) fn written(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.state().join("instance.json")).ok()?).ok()
    }

    /// The directory of that.
    pub(crate) fn state(&self) -> PathBuf {
        self.node.state().join(format!("pod-{}", self.uid))
    }

    /// The status of its readiness probe; 0: nobody answers.
    pub(crate) fn readiness(&self) -> u16 {
        let answer = self.get(15021, "/healthz/ready");
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// One of its proxy's metrics.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.get(15020, "/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Waits until its annotation says so.
    #[track_caller]
    pub(crate) fn is_reported(&self, armed: bool) -> Value {
        let what = format!("the annotation to say armed: {armed}");
        eventually(2 * DEADLINE, &what, || {
            let said = self.node.said();
            let last =
                said.iter().rev().find_map(|said| said["annotations"]["sidecar.dev/armed"].as_str())?;
            let last: Value = serde_json::from_str(last).unwrap();
            (last["armed"] == armed).then_some(last)
        })
    }

    /// The reasons of its events so far.
    pub(crate) fn events(&self) -> Vec<String> {
        let said = self.node.said();
        said.iter().filter_map(|said| said["event"].as_str().map(str::to_owned)).collect()
    }

    fn get(&self, port: u16, path: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            let mut request = String::new();
            let _ = write!(request, "GET {path} HTTP/1.0\r\nhost: pod\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        self.netns().enter(ask).unwrap_or_default()
    }

    fn netns(&self) -> &Netns {
        &self.net.pod
    }

    fn container(&self, name: &str) -> Place {
        self.netns().place().in_cgroup(&self.cgroup().join(name))
    }

    fn put(&self) {
        self.node.tell(&json!({"put": "pods", "object": &*self.object.borrow()}));
    }
}
