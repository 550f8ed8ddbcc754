//! What the added containers ask for and may take.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::Refusal;
use crate::kubernetes::annotations::{AnnotationError, Annotations};

/// An amount, as Kubernetes writes it: `10m`, `32Mi`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quantity(String);

/// Requests and limits.
///
/// By default the proxy asks for little, since an idle one takes little. Its limit of memory leaves room for some ten thousand
/// connections, and for the kernel half's maps, which the kernel charges to the Pod that they were made in. There is no limit of processor time: a throttled proxy would delay every request of an
/// application that is not throttled.
#[derive(Clone, PartialEq, Eq, Debug, clap::Args)]
pub struct Resources {
    /// What the proxy asks for of a processor; annotation sidecar.dev/cpu
    #[arg(long, default_value = "10m", value_name = "QUANTITY")]
    pub cpu: Quantity,
    /// What it asks for of memory; annotation sidecar.dev/memory
    #[arg(long, default_value = "32Mi", value_name = "QUANTITY")]
    pub memory: Quantity,
    /// What it may take of processors, by default all; annotation sidecar.dev/cpu-limit
    #[arg(long, value_name = "QUANTITY")]
    pub cpu_limit: Option<Quantity>,
    /// What it may take of memory; annotation sidecar.dev/memory-limit
    #[arg(long, default_value = "256Mi", value_name = "QUANTITY")]
    pub memory_limit: Quantity,
}

/// Suffixes of quantities (apimachinery, `resource.Quantity`).
const SUFFIXES: [&str; 16] =
    ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

// === impl Quantity ===

impl FromStr for Quantity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = &text[number.len()..];
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| (1..=18).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        let good = digits(whole) && digits(fraction) && SUFFIXES.contains(&suffix);
        if good { Ok(Self(text.to_owned())) } else { Err("write a quantity such as 10m, 0.5, 32Mi or 1Gi") }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Resources ===

impl Resources {
    /// With what a Pod's annotations say instead.
    pub(super) fn overridden(&self, annotations: &Annotations) -> Result<Self, Refusal> {
        let read = |name: &'static str| -> Result<Option<Quantity>, AnnotationError> {
            let Some(text) = annotations.get(name) else { return Ok(None) };
            text.parse().map(Some).map_err(|remedy| AnnotationError::new(name, text, remedy))
        };
        Ok(Self {
            cpu: read("sidecar.dev/cpu")?.unwrap_or_else(|| self.cpu.clone()),
            memory: read("sidecar.dev/memory")?.unwrap_or_else(|| self.memory.clone()),
            cpu_limit: read("sidecar.dev/cpu-limit")?.or_else(|| self.cpu_limit.clone()),
            memory_limit: read("sidecar.dev/memory-limit")?.unwrap_or_else(|| self.memory_limit.clone()),
        })
    }

    pub(super) fn of_proxy(&self) -> Value {
        let mut limits = json!({"memory": self.memory_limit.0});
        if let Some(cpu) = &self.cpu_limit {
            limits["cpu"] = json!(cpu.0);
        }
        json!({"requests": {"cpu": self.cpu.0, "memory": self.memory.0}, "limits": limits})
    }

    /// The same: a Pod asks for the larger of what its init containers and its containers do, so that this costs nothing.
    pub(super) fn of_init(&self) -> Value {
        self.of_proxy()
    }
}
