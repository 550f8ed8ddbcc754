//! Files and directories, as they are read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory that is removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sidecar-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn load_error(path: &Path) -> String {
    Config::load(path).map_or_else(|errors| errors.to_string(), |config| panic!("accepted: {config:?}"))
}

#[test]
fn a_directory_is_read_as_kubernetes_mounts_it() {
    let scratch = Scratch::new();
    let listener = format!("{HEAD}  listeners: [{{name: a, address: '127.0.0.1:80', forward: app}}]\n");
    scratch.write("..2026/proxy.yaml", listener);
    scratch.write("..2026/app.yml", backend("  endpoints: [{unix: /a}]\n"));
    scratch.write("route.json", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}"#);
    scratch.write(".hidden.yaml", "not: ours");
    scratch.write("notes.txt", "not: ours");
    scratch.write("directory.yaml/deeper.yaml", "not: ours");
    let link = |to: &str, name: &str| {
        symlink(to, scratch.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    };
    link("..2026", "..data");
    link("..data/proxy.yaml", "proxy.yaml");
    link("..data/app.yml", "app.yml");

    let config = Config::load(&scratch.0).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.listeners[0].forward.as_deref(), Some("app"));
    assert_eq!(config.routes.services.len(), 1);

    scratch.write("again.yaml", HEAD);
    let (first, second) = (scratch.0.join("again.yaml"), scratch.0.join("proxy.yaml"));
    let why = "kind: there is a ProxyConfig already, at";
    assert_eq!(
        load_error(&scratch.0),
        format!("{}:2: {why} {}:2; leave one out", second.display(), first.display())
    );

    link("nowhere", "z.yaml");
    assert!(load_error(&scratch.0).contains("z.yaml: cannot read: No such file or directory"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let scratch = Scratch::new();
    let missing = scratch.0.join("missing.yaml");
    assert!(load_error(&missing).starts_with(&format!("{}: cannot read: No such file", missing.display())));
    let name = scratch.0.display();
    assert_eq!(load_error(&scratch.0), format!("{name}: has no *.yaml, *.yml or *.json in it"));
    let latin1 = scratch.write("latin1.yaml", b"# caf\xe9\n");
    assert!(load_error(&latin1).ends_with("latin1.yaml: is not UTF-8 at byte 5; save it as UTF-8"));
}

#[test]
fn files_are_bounded() {
    let scratch = Scratch::new();
    let mut text = "#".repeat(1024 * 1024);
    let largest = scratch.write("largest.yaml", &text);
    assert_eq!(Config::load(&largest), Ok(Config::default()));
    text.push('#');
    let larger = scratch.write("larger.yaml", &text);
    assert!(load_error(&larger).contains("larger.yaml: is larger than 1 MiB"));
}

#[test]
fn any_file_may_be_a_pipe() {
    assert_eq!(Config::load(Path::new("/dev/null")), Ok(Config::default()));
    assert!(load_error(Path::new("/dev/zero")).contains("is larger than 1 MiB"));
}

#[test]
fn the_number_of_files_is_bounded() {
    let scratch = Scratch::new();
    for i in 0..=MAX_FILES {
        scratch.write(&format!("{i}.yaml"), "");
    }
    assert!(load_error(&scratch.0).ends_with("has 1001 files, more than 1000; join some"));
}
