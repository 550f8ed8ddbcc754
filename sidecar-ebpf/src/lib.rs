//! Empty: a library target lets Cargo treat this package as a dependency.
#![no_std]
