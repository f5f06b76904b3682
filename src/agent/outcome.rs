//! What a worker's job came to, as one closed enum: taken up by the loop in its next turn.

use super::api::Watched;
use super::node_facts::NodeReadings;
use super::preloads::PreloadReport;
use super::start::PreparedStart;
use super::worker::Finding;
use crate::cluster::fact::Fact;
use crate::manifest::decode::{DecodeFailure, Decoded};
use crate::manifest::scan::ScanResult;
use crate::manifest::table::Ticket;
use crate::model::id::{ContainerName, PodUid};
use crate::model::observed::ImageProblem;
use crate::reconcile::event::Event;
use crate::runtime::pod_files::Stamp;
use crate::runtime::sandbox::SandboxRecord;
use std::net::IpAddr;

#[derive(Debug)]
pub enum Outcome {
    /// Facts for the core, in order.
    Facts(Vec<Event>),
    /// A pod's sandbox is there, as this record says.
    SandboxMade(Box<SandboxRecord>),
    /// A container is ready to be spawned.
    StartPrepared(Box<PreparedStart>),
    /// The manifest directory as it is; `news` if it differs from what the scan before saw.
    Scanned {
        result: ScanResult,
        news: bool,
    },
    /// What the decoding child made of one manifest.
    Decoded(Box<(Ticket, Result<Decoded, DecodeFailure>)>),
    Preloaded(PreloadReport),
    /// The store has no such image; told to the core only when no archive that may hold it is being read.
    ImageMissing {
        uid: PodUid,
        container: ContainerName,
        problem: ImageProblem,
    },
    NodeAddress {
        address: Option<IpAddr>,
        news: bool,
    },
    /// How the files stand that pods are given from.
    NodeFiles {
        stamp: Stamp,
        news: bool,
    },
    /// What the API server said.
    Cluster(Box<Fact>),
    Watched(Box<Watched>),
    /// What the Node object shows of the machine.
    NodeReadings(Box<NodeReadings>),
    /// The job answered its asker itself, or there is nothing to say.
    Nothing,
}

impl Finding for Outcome {
    fn is_news(&self) -> bool {
        match self {
            Outcome::Facts(events) => !events.is_empty(),
            Outcome::Scanned { news, .. } | Outcome::NodeFiles { news, .. } | Outcome::NodeAddress { news, .. } => {
                *news
            }
            Outcome::Nothing => false,
            Outcome::SandboxMade(_)
            | Outcome::StartPrepared(_)
            | Outcome::Decoded(_)
            | Outcome::Preloaded(_)
            | Outcome::ImageMissing { .. }
            | Outcome::Cluster(_)
            | Outcome::NodeReadings(_)
            | Outcome::Watched(_) => true,
        }
    }
}
