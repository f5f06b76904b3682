//! What the monitor makes of the creator's messages: a container that runs, or the reason why not.

use super::progress::Progress;
use super::record::{FailedStage, Failure};
use super::user;
use crate::model::id::{Pid, ProcessRef};
use crate::model::observed::LinuxUser;
use crate::sys::spawn;

/// What the creator and init said.
#[derive(Default)]
pub(super) struct Told {
    pub warnings: Vec<String>,
    /// libcontainer's innermost error.
    pub trace: Option<String>,
    pub refused: Option<String>,
    pub failed: Option<(FailedStage, String)>,
    pub init: Option<ProcessRef>,
    pub user: Option<LinuxUser>,
    pub started: bool,
}

impl Told {
    pub fn take(&mut self, progress: Progress) {
        match progress {
            Progress::Warning(text) => self.warnings.push(text),
            Progress::Trace(text) => {
                self.trace.get_or_insert(text);
            }
            Progress::User(text) => self.user = user::parse_identity(&text),
            Progress::Refused(text) => {
                self.refused.get_or_insert(text);
            }
            Progress::Failed(stage, text) => self.failed = Some((stage, text)),
            Progress::Created(pid) => {
                // Not reaped yet, so it is there even if it is dead already.
                let start_ticks = spawn::start_ticks(pid).unwrap_or_default();
                self.init = Some(ProcessRef { pid: Pid(pid), start_ticks });
            }
            Progress::Started => self.started = true,
            Progress::Unknown => {}
        }
    }

    /// init's own reason where it gave one; else the step that failed, and why as libcontainer traced it.
    pub fn failure(&self) -> Option<Failure> {
        if let Some(why) = &self.refused {
            let step = if self.started { "failed to start container" } else { "failed to create container" };
            return Some(Failure { stage: FailedStage::Run, message: format!("{step}: {why}") });
        }
        let (stage, text) = self.failed.clone()?;
        let message = match &self.trace {
            Some(trace) if stage == FailedStage::Run => format!("{text}: {trace}"),
            _ => text,
        };
        Some(Failure { stage, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(messages: Vec<Progress>) -> Option<Failure> {
        let mut told = Told::default();
        messages.into_iter().for_each(|message| told.take(message));
        told.failure()
    }

    fn run(message: &str) -> Option<Failure> {
        Some(Failure { stage: FailedStage::Run, message: message.to_owned() })
    }

    #[test]
    fn what_init_said_wins_over_libcontainers_account_of_it() {
        let refused = Progress::Refused("exec: \"x\": permission denied".into());
        let account = Progress::Failed(FailedStage::Run, "failed to create container: something".into());
        let told = failure(vec![Progress::Trace("deep".into()), refused.clone(), account]);
        assert_eq!(told, run("failed to create container: exec: \"x\": permission denied"));
        let late = failure(vec![Progress::Created(1), Progress::Started, refused]);
        assert_eq!(late, run("failed to start container: exec: \"x\": permission denied"));
    }

    #[test]
    fn the_first_trace_is_the_cause_and_only_of_what_libcontainer_did() {
        let traces = || vec![Progress::Trace("EPERM".into()), Progress::Trace("and so on".into())];
        let with = |stage| failure(traces().into_iter().chain([Progress::Failed(stage, "no".into())]).collect());
        assert_eq!(with(FailedStage::Run), run("no: EPERM"));
        let config = Failure { stage: FailedStage::Config, message: "no".to_owned() };
        assert_eq!(with(FailedStage::Config), Some(config));
        assert_eq!(failure(traces()), None);
    }
}
