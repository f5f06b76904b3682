//! Newtypes for every id, so that a container id is never passed where a pod uid belongs.
//!
//! A constructor that can fail validates once; whoever holds the value may trust it.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! text_id {
    ($(#[$attribute:meta])* $name:ident) => {
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        $(#[$attribute])*
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// Reading one from a record goes through its constructor: paths are made of it, and a damaged record may say `..`.
macro_rules! read_checked {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<$name, String> {
                $name::new(&text).ok_or_else(|| format!(concat!("{:?} is no ", stringify!($name)), text))
            }
        }
    };
}

read_checked!(PodUid);
read_checked!(ContainerName);
read_checked!(ContainerId);

text_id! {
    /// A pod's UID: `metadata.uid` of the manifest (`[A-Za-z0-9-]{1,64}`), else 32 hex digits (contract 3).
    #[serde(try_from = "String")]
    PodUid
}
text_id! {
    /// A container's name within its pod: a DNS-1123 label.
    #[serde(try_from = "String")]
    ContainerName
}
text_id! {
    /// 64 lower-case hex digits, new for every start of a container.
    #[serde(try_from = "String")]
    ContainerId
}
text_id! {
    /// The node's name: lower case, the suffix of every static pod's name.
    NodeName
}
text_id! {
    /// `/proc/sys/kernel/random/boot_id`: tells records of this boot from those of another.
    BootId
}

impl PodUid {
    /// The longest UID that contract 3 accepts, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Returns `None` unless `text` is `[A-Za-z0-9-]{1,64}`.
    pub fn new(text: &str) -> Option<PodUid> {
        let ok = !text.is_empty()
            && text.len() <= Self::MAX_LEN
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        ok.then(|| PodUid(text.to_owned()))
    }
}

impl ContainerName {
    /// Returns `None` unless `text` could be a path component and a DNS-1123 label (kubelet: validation.go).
    pub fn new(text: &str) -> Option<ContainerName> {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let ok = text.len() <= 63
            && edge(text.bytes().next())
            && edge(text.bytes().last())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        ok.then(|| ContainerName(text.to_owned()))
    }
}

impl ContainerId {
    /// Returns `None` unless `text` is 64 lower-case hex digits.
    pub fn new(text: &str) -> Option<ContainerId> {
        let ok = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ok.then(|| ContainerId(text.to_owned()))
    }

    /// The id made of 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> ContainerId {
        ContainerId(bytes.iter().map(|b| format!("{b:02x}")).collect())
    }
}

impl NodeName {
    /// Trimmed and lower-cased, as the kubelet does with the host's name; `None` if nothing is left.
    pub fn new(text: &str) -> Option<NodeName> {
        let name = text.trim().to_lowercase();
        (!name.is_empty()).then_some(NodeName(name))
    }
}

impl BootId {
    pub fn new(text: &str) -> BootId {
        BootId(text.trim().to_owned())
    }
}

/// What names a pod to its users: the namespace and the full name (manifest name, `-`, node name).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodKey {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A process id in the host's pid namespace. Alone it proves nothing: see [`ProcessRef`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(pub i32);

/// A process that can be recognised again: pid and start time (clock ticks since boot, field 22 of
/// `/proc/<pid>/stat`). Valid only within one boot, so a record that holds one holds the boot id too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    pub pid: Pid,
    pub start_ticks: u64,
}
