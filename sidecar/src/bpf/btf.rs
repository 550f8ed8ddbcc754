//! Where fields are in the running kernel's structures, by its own description (Documentation/bpf/btf.rst). Each field's
//! size is checked: a kernel whose types are not the expected ones gives a reason, not an offset.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use sidecar_common::bypass::Layout;

/// The kernel's description of its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`.
const TYPE_BYTES: usize = 12;
/// How deep modifiers and anonymous members are followed.
const DEPTH: usize = 16;

/// The structures that fields are looked up in.
const STRUCTS: [&str; 9] = [
    "fdtable",
    "file",
    "files_struct",
    "inet_connection_sock",
    "net",
    "sock",
    "socket",
    "task_struct",
    "tcp_sock",
];

/// Which bit of `sk_userlocks` that is (include/net/sock.h: 2).
const SOCK_RCVBUF_LOCK: u32 = 1;

/// include/uapi/linux/btf.h, `BTF_KIND_*`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Types by number, and structures by name.
struct Types<'a> {
    /// Where each type's `struct btf_type` begins; type 0 is `void`.
    starts: Vec<usize>,
    structs: HashMap<&'a str, usize>,
    sock_flags: Option<usize>,
    rdonly_cast: Option<u32>,
    bytes: &'a [u8],
    strings: &'a [u8],
}

/// The layout of the running kernel. The error says what is missing.
pub(super) fn layout() -> Result<Layout, String> {
    let bytes = fs::read(Path::new(VMLINUX)).map_err(|error| format!("{VMLINUX}: {error}"))?;
    let types = Types::parse(&bytes).ok_or_else(|| format!("{VMLINUX}: not in a form that is known"))?;
    let at = |name: &str, path: &[&str], size: usize| {
        let field = || format!("{name}.{}", path.join("."));
        match types.field(name, path) {
            Some((offset, found)) if found == size => Ok(offset),
            Some((_, found)) => Err(format!("{} has {found} bytes rather than {size}", field())),
            None => Err(format!("this kernel has no {}", field())),
        }
    };
    let sock_size = types.field("sock", &[]).map_or(0, |(_, size)| size);
    if at("tcp_sock", &["inet_conn", "icsk_inet", "sk"], sock_size)? != 0 {
        return Err("tcp_sock does not begin with its sock".to_owned());
    }
    let number = |name: &str| types.number(name).ok_or_else(|| format!("this kernel has no {name}"));
    let bit = |name: &str| {
        types.enumerator(name).ok_or_else(|| format!("this kernel has no {name} in enum sock_flags"))
    };
    Ok(Layout {
        sock_cookie: at("sock", &["__sk_common", "skc_cookie"], 8)?,
        sock_state: at("sock", &["__sk_common", "skc_state"], 1)?,
        sock_rmem_alloc: at("sock", &["sk_backlog", "rmem_alloc"], 4)?,
        sock_rcvbuf: at("sock", &["sk_rcvbuf"], 4)?,
        sock_rcvlowat: at("sock", &["sk_rcvlowat"], 4)?,
        sock_flags: at("sock", &["__sk_common", "skc_flags"], 8)?,
        sock_rcvbuf_lock: types.bits("sock", "sk_userlocks").ok_or("this kernel has no sock.sk_userlocks")?
            + SOCK_RCVBUF_LOCK,
        sock_net: at("sock", &["__sk_common", "skc_net", "net"], 8)?,
        net_tcp_rmem: at("net", &["ipv4", "sysctl_tcp_rmem"], 12)?,
        sock_socket: at("sock", &["sk_socket"], 8)?,
        socket_sk: at("socket", &["sk"], 8)?,
        socket_file: at("socket", &["file"], 8)?,
        file_flags: at("file", &["f_flags"], 4)?,
        file_epoll: at("file", &["f_ep"], 8)?,
        file_private: at("file", &["private_data"], 8)?,
        task_files: at("task_struct", &["files"], 8)?,
        files_table: at("files_struct", &["fdt"], 8)?,
        table_files: at("fdtable", &["fd"], 8)?,
        csk_ulp_ops: at("inet_connection_sock", &["icsk_ulp_ops"], 8)?,
        tcp_write_seq: at("tcp_sock", &["write_seq"], 4)?,
        tcp_snd_una: at("tcp_sock", &["snd_una"], 4)?,
        tcp_copied_seq: at("tcp_sock", &["copied_seq"], 4)?,
        tcp_rcv_nxt: at("tcp_sock", &["rcv_nxt"], 4)?,
        tcp_rcv_wup: at("tcp_sock", &["rcv_wup"], 4)?,
        tcp_rcv_wnd: at("tcp_sock", &["rcv_wnd"], 4)?,
        zerocopy_bit: bit("SOCK_ZEROCOPY")?,
        type_tcp_sock: number("tcp_sock")?,
        type_net: number("net")?,
        type_socket: number("socket")?,
        type_file: number("file")?,
        rdonly_cast: types.rdonly_cast.unwrap_or_default(),
    })
}

impl<'a> Types<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if word16(bytes, 0)? != MAGIC {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let [type_at, type_len, string_at, string_len] =
            [word(bytes, 8)?, word(bytes, 12)?, word(bytes, 16)?, word(bytes, 20)?]
                .map(|value| value as usize);
        let types = bytes.get(header + type_at..header + type_at + type_len)?;
        let strings = bytes.get(header + string_at..header + string_at + string_len)?;
        let mut parsed = Self {
            starts: vec![usize::MAX],
            structs: HashMap::new(),
            sock_flags: None,
            rdonly_cast: None,
            bytes: types,
            strings,
        };
        let mut at = 0;
        while at < types.len() {
            let (kind, count) = (parsed.kind(at)?, parsed.count(at)?);
            match (kind, parsed.name(word(types, at)?)?) {
                (kind::STRUCT, name) if STRUCTS.contains(&name) => {
                    parsed.structs.entry(name).or_insert(at);
                }
                (kind::ENUM, "sock_flags") => parsed.sock_flags = Some(at),
                // The first: the kernel knows no other by that name.
                (kind::FUNC, "bpf_rdonly_cast") if parsed.rdonly_cast.is_none() => {
                    parsed.rdonly_cast = u32::try_from(parsed.starts.len()).ok();
                }
                _ => {}
            }
            parsed.starts.push(at);
            at += TYPE_BYTES + trailing_bytes(kind, count)?;
        }
        Some(parsed)
    }

    /// The number of a structure.
    fn number(&self, structure: &str) -> Option<u32> {
        let at = self.structs.get(structure)?;
        u32::try_from(self.starts.iter().position(|start| start == at)?).ok()
    }

    /// Offset and size in bytes of a field of a structure, by the names on the way to it.
    fn field(&self, structure: &str, path: &[&str]) -> Option<(u32, usize)> {
        let (mut at, mut bits) = (*self.structs.get(structure)?, 0);
        for name in path {
            let (member, offset) = self.member(at, name, DEPTH)?;
            at = self.resolve(member)?;
            bits += offset;
        }
        (bits % 8 == 0).then_some(())?;
        Some((bits / 8, self.size(at)?))
    }

    /// Where the bits of a member begin, from the structure's start, whether it is a bitfield or not: that changes. (In the order
    /// of a little-endian machine.)
    fn bits(&self, structure: &str, name: &str) -> Option<u32> {
        let at = *self.structs.get(structure)?;
        let bitfields = word(self.bytes, at + 4)? >> 31 != 0;
        (0..self.count(at)?).find_map(|index| {
            let entry = at + TYPE_BYTES + index * 12;
            let place = word(self.bytes, entry + 8)?;
            let is_it = self.name(word(self.bytes, entry)?)? == name;
            is_it.then_some(if bitfields { place & 0x00ff_ffff } else { place })
        })
    }

    /// A member's type and offset in bits; also one of an anonymous structure within.
    fn member(&self, at: usize, name: &str, depth: usize) -> Option<(u32, u32)> {
        let bitfields = word(self.bytes, at + 4)? >> 31 != 0;
        (0..self.count(at)?).find_map(|index| {
            let entry = at + TYPE_BYTES + index * 12;
            let (its_name, its_type) = (self.name(word(self.bytes, entry)?)?, word(self.bytes, entry + 4)?);
            let place = word(self.bytes, entry + 8)?;
            let (offset, bits) = if bitfields { (place & 0x00ff_ffff, place >> 24) } else { (place, 0) };
            if its_name == name && bits == 0 {
                return Some((its_type, offset));
            }
            let within = self.resolve(its_type).filter(|_| its_name.is_empty() && depth > 0)?;
            matches!(self.kind(within)?, kind::STRUCT | kind::UNION).then_some(())?;
            let (found, inner) = self.member(within, name, depth - 1)?;
            Some((found, offset + inner))
        })
    }

    /// The value of an enumerator of `enum sock_flags`.
    fn enumerator(&self, name: &str) -> Option<u32> {
        let at = self.sock_flags?;
        (0..self.count(at)?).find_map(|index| {
            let entry = at + TYPE_BYTES + index * 8;
            (self.name(word(self.bytes, entry)?)? == name).then(|| word(self.bytes, entry + 4))?
        })
    }

    /// Through typedefs and qualifiers, to what a type is.
    fn resolve(&self, number: u32) -> Option<usize> {
        let mut number = number;
        for _ in 0..DEPTH {
            let at = *self.starts.get(number as usize).filter(|at| **at != usize::MAX)?;
            match self.kind(at)? {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    number = word(self.bytes, at + 8)?;
                }
                _ => return Some(at),
            }
        }
        None
    }

    fn size(&self, at: usize) -> Option<usize> {
        match self.kind(at)? {
            kind::PTR => Some(8),
            // `struct btf_array`: the elements' type, the index's, and how many.
            kind::ARRAY => {
                let element = self.resolve(word(self.bytes, at + TYPE_BYTES)?)?;
                Some(self.size(element)? * word(self.bytes, at + TYPE_BYTES + 8)? as usize)
            }
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 => {
                Some(word(self.bytes, at + 8)? as usize)
            }
            _ => None,
        }
    }

    fn kind(&self, at: usize) -> Option<u32> {
        Some(word(self.bytes, at + 4)? >> 24 & 0x1f)
    }

    fn count(&self, at: usize) -> Option<usize> {
        Some(word(self.bytes, at + 4)? as usize & 0xffff)
    }

    fn name(&self, offset: u32) -> Option<&'a str> {
        let text = self.strings.get(offset as usize..)?;
        std::str::from_utf8(text.split(|byte| *byte == 0).next()?).ok()
    }
}

/// What follows a `struct btf_type`; `None`: a kind that is not known, whose length is not either.
fn trailing_bytes(kind: u32, count: usize) -> Option<usize> {
    match kind {
        kind::INT | kind::VAR | kind::DECL_TAG => Some(4),
        kind::ARRAY => Some(12),
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => Some(12 * count),
        kind::ENUM | kind::FUNC_PROTO => Some(8 * count),
        0..=kind::TYPE_TAG => Some(0),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_running_kernel_are_found_or_named() {
        match layout() {
            Ok(layout) => {
                // Protocol, state and addresses come first in every sock; no two fields share a place.
                assert!(layout.sock_state < layout.sock_cookie, "{layout:?}");
                let tcp =
                    [layout.tcp_write_seq, layout.tcp_snd_una, layout.tcp_copied_seq, layout.tcp_rcv_nxt];
                assert!(tcp.iter().enumerate().all(|(i, at)| !tcp[..i].contains(at)), "{layout:?}");
            }
            Err(reason) => assert!(!reason.is_empty()),
        }
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        assert!(Types::parse(b"").is_none());
        assert!(Types::parse(&[0; 64]).is_none());
        // A length beyond the end.
        let mut header = [0u8; 24];
        header[..2].copy_from_slice(&MAGIC.to_ne_bytes());
        header[4..8].copy_from_slice(&24u32.to_ne_bytes());
        header[12..16].copy_from_slice(&100u32.to_ne_bytes());
        assert!(Types::parse(&header).is_none());
    }
}
