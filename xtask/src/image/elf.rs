//! What may go into an image: a program that needs nothing else.

use super::Arch;
use anyhow::{Context, Result, bail};
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, read};

/// Refuses a program for another machine, and one that a loader would have to complete.
pub(super) fn check(program: &[u8], arch: Arch) -> Result<()> {
    let read = || -> read::Result<_> {
        let header = FileHeader64::<Endianness>::parse(program)?;
        let endian = header.endian()?;
        let mut segments = header.program_headers(endian, program)?.iter();
        Ok((header.e_machine(endian), segments.any(|segment| segment.p_type(endian) == PT_INTERP)))
    };
    let (machine, has_loader) = read().context("not a 64-bit ELF file")?;
    let wanted = match arch {
        Arch::Amd64 => EM_X86_64,
        Arch::Arm64 => EM_AARCH64,
    };
    if machine != wanted {
        bail!("the program is not for {arch}");
    }
    if has_loader {
        bail!("the program is not static: it asks for a loader");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_static_or_for_another_machine() -> Result<()> {
        // The tests themselves are linked dynamically.
        let own = std::fs::read(std::env::current_exe()?)?;
        let other = if Arch::host() == Arch::Amd64 { Arch::Arm64 } else { Arch::Amd64 };
        let refusal = |program: &[u8], arch| check(program, arch).map_err(|error| error.to_string());
        assert_eq!(
            refusal(&own, Arch::host()),
            Err("the program is not static: it asks for a loader".to_owned())
        );
        assert_eq!(refusal(&own, other), Err(format!("the program is not for {other}")));
        assert_eq!(refusal(b"#!/bin/sh", Arch::host()), Err("not a 64-bit ELF file".to_owned()));
        Ok(())
    }
}
