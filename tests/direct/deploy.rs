//! The manifests of deploy/, by the programs that their users have.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use sidecar_tests::{Finished, require};
use tempfile::TempDir;

/// The versions of Kubernetes that are supported: the oldest, and the newest whose schemas there are.
const MINORS: std::ops::RangeInclusive<u32> = 25..=37;

/// Ways to install, which the overlays and the chart have in common.
const MODES: [&str; 2] = ["init", "agent"];

/// What the tests start.
struct Tools {
    kubectl: PathBuf,
    helm: PathBuf,
    validate: PathBuf,
    python: PathBuf,
}

/// Objects by kind and name.
type Objects = BTreeMap<(String, String), Value>;

impl Tools {
    fn find() -> Result<Self, String> {
        Ok(Self {
            kubectl: require::tool("kubectl", "kubectl")?,
            helm: require::tool("kubectl", "helm")?,
            validate: require::tool("kubernetes-validate", "kubernetes-validate")?,
            python: require::tool("kubernetes-validate", "python")?,
        })
    }

    fn kustomize(&self, directory: &Path) -> String {
        Finished::of(Command::new(&self.kubectl).arg("kustomize").arg(directory)).success()
    }

    fn template(&self, arguments: &[&str]) -> Finished {
        let mut helm = Command::new(&self.helm);
        helm.args(["template", "sidecar"]).arg(deploy().join("helm/sidecar"));
        Finished::of(helm.args(["--namespace=sidecar-system", "--include-crds"]).args(arguments))
    }

    /// The objects of a text with YAML documents.
    fn objects(&self, text: &str) -> Objects {
        let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
        let mut python = Command::new(&self.python);
        let mut child =
            python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let documents: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let named = documents.into_iter().filter(|object| !object.is_null()).map(|object| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            ((text(&object["kind"]), text(&object["metadata"]["name"])), object)
        });
        named.collect()
    }
}

/// Ends the test early without the tools.
macro_rules! tools {
    () => {
        match Tools::find() {
            Ok(tools) => tools,
            Err(reason) => return require::skip(&reason),
        }
    };
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn overlay(mode: &str) -> PathBuf {
    deploy().join("kubernetes/overlays").join(mode)
}

#[test]
fn the_chart_and_the_overlays_say_the_same() {
    let tools = tools!();
    for mode in MODES {
        let mut expected = tools.objects(&tools.kustomize(&overlay(mode)));
        // Helm makes the namespace before it installs what is in it.
        expected.retain(|(kind, _), _| kind != "Namespace");
        let found = tools.objects(&tools.template(&["--set", &format!("mode={mode}")]).success());
        let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{mode}");
        for (name, object) in &expected {
            assert_eq!(&found[name], object, "{mode}: {name:?}");
        }
    }
}

#[test]
fn the_charts_values_are_checked() {
    let tools = tools!();
    for (wrong, word) in
        [("mode=both", "mode"), ("webhook.replica=3", "replica"), ("image.tag=null,agents=1", "agents")]
    {
        let refused = tools.template(&["--set", wrong]);
        assert!(!refused.status.success() && refused.stderr.contains(word), "{wrong}: {refused:?}");
    }
}

#[test]
fn one_place_names_the_image() {
    let tools = tools!();
    for mode in MODES {
        let copy = TempDir::new().unwrap();
        let status = Command::new("cp").arg("-r").arg(deploy().join("kubernetes")).arg(copy.path()).status();
        assert!(status.unwrap().success());
        let file = copy.path().join("kubernetes/overlays").join(mode).join("kustomization.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let text = text.replace("newName: sidecar\n", "newName: registry.example/team/sidecar\n");
        fs::write(&file, text.replace("newTag: 0.1.0", "newTag: 9.9.9")).unwrap();
        let rendered = tools.kustomize(file.parent().unwrap());
        let images = if mode == "agent" { 3 } else { 2 };
        assert_eq!(rendered.matches("registry.example/team/sidecar:9.9.9").count(), images, "{rendered}");
        assert!(!rendered.contains("sidecar:0.1.0"));
    }
}

#[test]
fn manifests_fit_the_schemas_of_every_version() {
    let tools = tools!();
    let directory = TempDir::new().unwrap();
    let mut files = Vec::new();
    let mut add = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        files.push(path);
    };
    for mode in MODES {
        add(&format!("kustomize-{mode}.yaml"), tools.kustomize(&overlay(mode)));
        add(&format!("helm-{mode}.yaml"), tools.template(&["--set", &format!("mode={mode}")]).success());
    }
    add("check.yaml", tools.kustomize(&deploy().join("kubernetes/check")));
    let all = tools.template(&[
        "--set",
        "mode=agent,image.pullPolicy=Always,image.pullSecrets[0].name=a,webhook.certManager=true",
    ]);
    add("helm-more.yaml", all.success());
    files.extend(yaml_files(&deploy().join("examples")));
    for minor in MINORS {
        let mut validate = Command::new(&tools.validate);
        validate.args(["--strict", "--quiet", "--kubernetes-version", &format!("1.{minor}")]).args(&files);
        Finished::of(&mut validate).success();
    }
}

/// The YAML files below a directory, where there is one. Of kinds that Kubernetes does not bring along, no schema is known.
fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_yaml = |path: &Path| path.extension().is_some_and(|extension| extension == "yaml");
    let files = paths.map(|path| match path {
        path if path.is_dir() => yaml_files(&path),
        path if is_yaml(&path) => vec![path],
        _ => Vec::new(),
    });
    files.flatten().collect()
}

#[test]
fn a_field_that_is_none_does_not_fit() {
    let tools = tools!();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("wrong.yaml");
    let rendered = tools.kustomize(&overlay("init"));
    fs::write(&file, rendered.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem")).unwrap();
    let mut validate = Command::new(&tools.validate);
    let found = Finished::of(validate.args(["--strict", "--kubernetes-version", "1.30"]).arg(&file));
    assert!(!found.status.success(), "{found:?}");
}
