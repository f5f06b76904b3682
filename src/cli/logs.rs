//! `logs POD`: the agent reads the files, this prints.

use super::args::Logs;
use super::client::{Client, percent_encode};
use super::error::VerbError;
use super::{output, pod_name};
use std::path::Path;

pub fn run(run_dir: &Path, logs: &Logs) -> Result<u8, VerbError> {
    let client = Client::new(run_dir);
    let pod = pod_name::find(&client, &logs.pod)?;
    let (container, chosen) = pod_name::container(&pod, logs.container.as_deref())?;
    if chosen {
        pod_name::say_defaulted(&pod, &container);
    }
    let mut response = client.follow(&target(pod_name::key(&pod), &container, logs), logs.follow)?;
    let mut failed = None;
    let read = response.read(&mut |bytes| {
        Ok(output::print(bytes).unwrap_or_else(|error| {
            failed = Some(error);
            false
        }))
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(read.map(|()| 0)?),
    }
}

fn target(key: [&str; 2], container: &str, logs: &Logs) -> String {
    let mut query = Vec::new();
    for (name, set) in [("follow", logs.follow), ("previous", logs.previous), ("timestamps", logs.timestamps)] {
        if set {
            query.push(format!("{name}=true"));
        }
    }
    if let Some(lines) = logs.tail {
        query.push(format!("tailLines={lines}"));
    }
    if let Some(since) = logs.since {
        // Whole seconds, as kubectl rounds them: up.
        query.push(format!("sinceSeconds={}", since.as_secs() + u64::from(since.subsec_nanos() > 0)));
    }
    let [namespace, pod] = key.map(percent_encode);
    format!("/containerLogs/{namespace}/{pod}/{}?{}", percent_encode(container), query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::super::args::PodName;
    use super::*;
    use std::time::Duration;

    #[test]
    fn options_become_the_kubelets_query() {
        let mut logs = Logs {
            pod: PodName { name: "web".to_owned(), namespace: None },
            container: None,
            follow: false,
            previous: false,
            timestamps: false,
            tail: None,
            since: None,
        };
        assert_eq!(target(["default", "web-n"], "c", &logs), "/containerLogs/default/web-n/c?");
        logs.follow = true;
        logs.timestamps = true;
        logs.tail = Some(5);
        logs.since = Some(Duration::from_millis(1500));
        let query = "follow=true&timestamps=true&tailLines=5&sinceSeconds=2";
        assert_eq!(target(["default", "web-n"], "c", &logs), format!("/containerLogs/default/web-n/c?{query}"));
    }
}
