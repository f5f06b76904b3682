//! What the node is told to be in a cluster: taints, what is kept back from pods, thresholds.
//!
//! Flags and file fill these in, the cluster core turns them into the Node object; neither may know the other.

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl TaintEffect {
    pub fn as_str(self) -> &'static str {
        match self {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        }
    }

    pub fn parse(text: &str) -> Option<TaintEffect> {
        let all = [TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule, TaintEffect::NoExecute];
        all.into_iter().find(|effect| effect.as_str() == text)
    }
}

/// A taint that the Node is registered with. At most one for each key and effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTaint {
    pub key: String,
    /// Empty for none.
    pub value: String,
    pub effect: TaintEffect,
}

/// What is kept from pods: `systemReserved` or `kubeReserved`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub ephemeral_storage_bytes: u64,
}

/// A threshold of `evictionHard`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    Bytes(u64),
    /// 0.1 is 10 %. Single precision, as the kubelet keeps it: the bytes that come of it must be the same.
    Fraction(f32),
}

impl Threshold {
    /// Bytes of `capacity`, cut as the kubelet cuts.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Threshold::Bytes(bytes) => bytes,
            Threshold::Fraction(fraction) => (capacity as f64 * f64::from(fraction)) as u64,
        }
    }
}

/// The thresholds of `evictionHard` that lower what pods may use; `None` where the signal has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HardEviction {
    pub memory_available: Option<Threshold>,
    pub nodefs_available: Option<Threshold>,
}

impl HardEviction {
    /// `evictionHard` names thresholds of its own: what it leaves out has none.
    pub const NONE: HardEviction = HardEviction { memory_available: None, nodefs_available: None };
}

impl Default for HardEviction {
    /// The kubelet's, where `evictionHard` is not set.
    fn default() -> HardEviction {
        HardEviction {
            memory_available: Some(Threshold::Bytes(100 * 1024 * 1024)),
            nodefs_available: Some(Threshold::Fraction(0.1)),
        }
    }
}
