//! Lists of ports and networks: `80,443`, `10.0.0.0/8`, `*`.

use std::fmt::{self, Display};
use std::str::FromStr;

use ipnet::IpNet;

use crate::config::value::{network, port};

/// Some ports or networks, or all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection<T> {
    /// `*`.
    All,
    /// These, sorted and without duplicates; none if it is empty.
    These(Vec<T>),
}

/// What a list is of.
pub trait Item: Ord + Display + Sized {
    /// Reads one.
    fn read(text: &str) -> Result<Self, String>;
}

// === impl ===

impl Item for u16 {
    fn read(text: &str) -> Result<Self, String> {
        port::parse(text)
            .map_err(|_| "write ports from 1 to 65535 with commas between them, or * for all".to_owned())
    }
}

impl Item for IpNet {
    fn read(text: &str) -> Result<Self, String> {
        network::parse(text).map_err(|error| format!("{error}; with commas between several, or * for all"))
    }
}

impl<T: Item> FromStr for Selection<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "*" => Ok(Self::All),
            "" => Ok(Self::These(Vec::new())),
            text => {
                let mut items =
                    text.split(',').map(|item| T::read(item.trim())).collect::<Result<Vec<T>, _>>()?;
                items.sort();
                items.dedup();
                Ok(Self::These(items))
            }
        }
    }
}

impl<T: Display> Display for Selection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::These(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                f.write_str(&items.join(","))
            }
        }
    }
}
