//! Whom this process shares its Pod with: containers of a shared pid namespace, and sockets of other users in the network
//! namespace. Both can be seen without any privilege.

use std::fs;

use nix::unistd::{geteuid, getpid};

/// States of `/proc/net/tcp` in which a program still holds the socket (include/net/tcp_states.h), in hexadecimal:
/// ESTABLISHED, `SYN_SENT`, `CLOSE_WAIT`, LISTEN. In the others it was closed, and the kernel finishes alone.
const HELD: [&str; 4] = ["01", "02", "08", "0A"];

/// True while a container other than this one runs in a shared pid namespace. The first process of a container has its
/// parent outside, which shows as 0; process 1 is the sandbox's (pause), as in a Pod with `shareProcessNamespace`.
pub fn has_containers() -> bool {
    let own = getpid().as_raw();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.any(|pid| pid != 1 && pid != own && parent_is_outside(pid))
}

fn parent_is_outside(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|parent| parent.trim() == "0"))
}

/// True while another user's program holds a TCP socket in this process's network namespace.
pub fn has_sockets() -> bool {
    let own = geteuid().as_raw();
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().any(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().skip(1).any(|line| is_held_by_another(line, own))
    })
}

/// A line of `/proc/net/tcp` or tcp6 (`proc_pid_net(5)`).
fn is_held_by_another(line: &str, own: u32) -> bool {
    let mut fields = line.split_whitespace().skip(3);
    let held = fields.next().is_some_and(|state| HELD.contains(&state));
    let user = fields.nth(3).and_then(|user| user.parse::<u32>().ok());
    held && user.is_some_and(|user| user != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_others_count_while_they_are_held() {
        let line = |state: &str, user: u32| {
            format!(
                "   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {user:>5}        0 12345 1"
            )
        };
        for held in HELD {
            assert!(is_held_by_another(&line(held, 0), 1337), "{held}");
            assert!(!is_held_by_another(&line(held, 1337), 1337), "{held}");
        }
        // TIME_WAIT and FIN_WAIT2: nobody's any more.
        assert!(!is_held_by_another(&line("06", 0), 1337));
        assert!(!is_held_by_another(&line("05", 1000), 1337));
        assert!(!is_held_by_another("", 1337));
    }
}
