//! YAML as kubectl reads it, and written so that every reader of YAML 1.1 or 1.2 sees the same.
//!
//! kubectl reads YAML 1.1, more or less: `yes` is a boolean, `0755` an octal number. Readers of YAML 1.2 differ. So a document is
//! read into [`Node`]s, which know how each scalar was written; one that has not changed is written as it was, and what is
//! new is quoted unless it is a text to everyone.

mod emit;
mod node;
mod scalar;

#[cfg(test)]
mod tests;

pub(super) use self::emit::emit;
pub(super) use self::node::{Broken, Node};
