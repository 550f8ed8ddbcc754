//! Finding mounts (proc_pid_mountinfo(5)).

use std::path::PathBuf;

/// A line of mountinfo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// The directory within the file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
}

/// The mounts of a file system type, in the order of the text of mountinfo.
pub fn of_type<'a>(mountinfo: &'a str, kind: &'a str) -> impl Iterator<Item = Mount> + 'a {
    mountinfo.lines().filter_map(move |line| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next()? == kind).then_some(())?;
        let mut fields = left.split(' ').skip(3);
        Some(Mount { root: unescape(fields.next()?), point: unescape(fields.next()?) })
    })
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        if let Some(byte) = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            text.push(char::from(byte));
            rest = &after[3..];
        } else {
            text.push('\\');
            rest = after;
        }
    }
    text.push_str(rest);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_mounts_of_a_type_with_escapes() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            41 31 0:38 /a\\040b /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n";
        let found: Vec<_> = of_type(text, "cgroup2").collect();
        assert_eq!(found, [Mount { root: "/a b".into(), point: "/sys/fs/cgroup/unified".into() }]);
    }
}
