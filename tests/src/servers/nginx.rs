use tempfile::TempDir;

use super::accepts;
use crate::{Netns, Place, Program};

/// nginx with a configuration and directory of its own; it answers every request with the client's address and the
/// address that it was reached at: `10.7.0.2:40000 10.7.0.1:80`.
#[derive(Debug)]
pub struct Nginx {
    _program: Program,
    _directory: TempDir,
}

impl Nginx {
    /// Starts it at `place`, which must be in `netns`, on `port` of every address.
    #[track_caller]
    pub fn start(netns: &Netns, place: &Place, port: u16) -> Self {
        let server = format!(
            "server {{
                listen 0.0.0.0:{port}; listen [::]:{port};
                return 200 '$remote_addr:$remote_port $server_addr:$server_port\\n';
            }}"
        );
        Self::serving(netns, place, port, &server)
    }

    /// Starts it with these directives within `http`, one of whose servers must listen on `port`.
    #[track_caller]
    pub fn serving(netns: &Netns, place: &Place, port: u16, servers: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|purpose| format!("{purpose}_temp_path {root}/{purpose};"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr;
            events {{ worker_connections 512; }}
            http {{
                access_log off; default_type text/plain; {temporary}
                {servers}
            }}"
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let mut command = place.command("/usr/sbin/nginx");
        let program =
            Program::start(command.args(["-e", "stderr", "-p"]).arg(directory.path()).arg("-c").arg(file));
        Self { _program: accepts(netns, port, program), _directory: directory }
    }
}
