//! `describe pod`: all of a pod in kubectl's layout, and before the events what `explain` says.

use super::args::PodName;
use super::client::{Client, percent_encode};
use super::error::VerbError;
use super::pod_row::reason;
use super::{events, output, pod_name};
use crate::model::time::Wall;
use crate::server::wire::{ExplainReport, problem_lines};
use crate::sys::clock;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodStatus, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::path::Path;

/// Blanks between columns, as kubectl has them.
const GAP: usize = 2;

pub fn pod(run_dir: &Path, wanted: &PodName) -> Result<u8, VerbError> {
    let client = Client::new(run_dir);
    let pod = pod_name::find(&client, wanted)?;
    output::print(described(&client, &pod).as_bytes())?;
    Ok(0)
}

/// Without a name: all pods, two blank lines between them, as kubectl does it.
pub fn pods(run_dir: &Path, namespace: Option<&str>) -> Result<u8, VerbError> {
    let client = Client::new(run_dir);
    let pods = pod_name::list(&client, namespace)?;
    if pods.is_empty() {
        output::complain("No resources found");
    }
    for (number, pod) in pods.iter().enumerate() {
        let gap = if number > 0 { "\n\n" } else { "" };
        if !output::print(format!("{gap}{}", described(&client, pod)).as_bytes())? {
            break;
        }
    }
    Ok(0)
}

fn described(client: &Client, pod: &Pod) -> String {
    let [namespace, name] = pod_name::key(pod).map(percent_encode);
    // A pod that has just gone has nothing more to explain.
    let explained = client.get(&format!("/pinlet/v1/explain?name={name}&namespace={namespace}")).ok();
    // An agent of an earlier version knows no events.
    let events = events::list(client, pod.metadata.namespace.as_deref()).ok();
    let events = events.map(|all| events::described(&events::of_pod(all, pod), Wall(clock::realtime_ns())));
    text(pod, explained.as_ref(), events.as_deref())
}

fn text(pod: &Pod, explained: Option<&ExplainReport>, events: Option<&[[String; 5]]>) -> String {
    let mut page = Page::default();
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    head(&mut page, pod, &spec, &status);
    page.line(&["Containers:"]);
    for container in &spec.containers {
        let state = status.container_statuses.iter().flatten().find(|s| s.name == container.name);
        describe_container(&mut page, container, state);
    }
    conditions(&mut page, &status);
    volumes(&mut page, spec.volumes.as_deref().unwrap_or_default());
    page.line(&["QoS Class:", status.qos_class.as_deref().unwrap_or("<none>")]);
    let tolerations = spec.tolerations.iter().flatten().map(|t| {
        let value = t.value.as_deref().map(|value| format!("={value}")).unwrap_or_default();
        let effect = t.effect.as_deref().map(|effect| format!(":{effect}")).unwrap_or_default();
        let operator = t.operator.as_deref().filter(|o| *o == "Exists").map(|o| format!(" op={o}")).unwrap_or_default();
        format!("{}{value}{effect}{operator}", t.key.as_deref().unwrap_or_default())
    });
    page.list("Tolerations:", tolerations.collect());
    let mut text = page.render();
    if let Some(report) = explained {
        text += &format!("Manifest:\n  {}\n", report.manifest.line());
        text += &problem_lines(&report.manifest.problems, report.manifest.more, "  ");
        text += &problem_lines(&report.reasons, 0, "  ");
    }
    text + &events.map(events_table).unwrap_or_default()
}

fn events_table(events: &[[String; 5]]) -> String {
    let mut page = Page::default();
    if events.is_empty() {
        page.line(&["Events:", "<none>"]);
        return page.render();
    }
    page.line(&["Events:"]);
    page.line(&["  Type", "Reason", "Age", "From", "Message"]);
    page.line(&["  ----", "------", "----", "----", "-------"]);
    for [kind, reason, age, from, message] in events {
        page.line(&[&format!("  {kind}"), reason, age, from, message]);
    }
    page.render()
}

fn head(page: &mut Page, pod: &Pod, spec: &PodSpec, status: &PodStatus) {
    let [namespace, name] = pod_name::key(pod);
    page.line(&["Name:", name]);
    page.line(&["Namespace:", namespace]);
    let node = spec.node_name.as_deref().unwrap_or("<none>");
    page.line(&["Node:", &format!("{node}/{}", status.host_ip.as_deref().unwrap_or_default())]);
    page.line(&["Start Time:", &time(status.start_time.as_ref())]);
    page.list("Labels:", pairs(pod.metadata.labels.as_ref(), "="));
    page.list("Annotations:", pairs(pod.metadata.annotations.as_ref(), ": "));
    match &pod.metadata.deletion_timestamp {
        Some(since) => page.line(&["Status:", &format!("{} (since {})", reason(pod, status), time(Some(since)))]),
        None => page.line(&["Status:", status.phase.as_deref().unwrap_or("Pending")]),
    }
    for (key, value) in [("Reason:", &status.reason), ("Message:", &status.message)] {
        if let Some(value) = value {
            page.line(&[key, value]);
        }
    }
    page.line(&["IP:", status.pod_ip.as_deref().unwrap_or_default()]);
    let addresses: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    match addresses.is_empty() {
        true => page.line(&["IPs:", "<none>"]),
        false => {
            page.line(&["IPs:"]);
            addresses.iter().for_each(|address| page.line(&["  IP:", address]));
        }
    }
}

fn describe_container(page: &mut Page, container: &Container, status: Option<&ContainerStatus>) {
    page.line(&[&format!("  {}:", container.name)]);
    page.line(&["    Container ID:", status.and_then(|s| s.container_id.as_deref()).unwrap_or_default()]);
    page.line(&["    Image:", container.image.as_deref().unwrap_or_default()]);
    page.line(&["    Image ID:", status.map(|s| s.image_id.as_str()).unwrap_or_default()]);
    let ports = container.ports.as_deref().unwrap_or_default();
    let protocol = |p: &k8s_openapi::api::core::v1::ContainerPort| p.protocol.clone().unwrap_or("TCP".to_owned());
    let list = |ports: Vec<String>| if ports.is_empty() { "<none>".to_owned() } else { ports.join(", ") };
    let inside = ports.iter().map(|p| format!("{}/{}", p.container_port, protocol(p))).collect();
    let outside = ports.iter().map(|p| format!("{}/{}", p.host_port.unwrap_or(0), protocol(p))).collect();
    page.line(&["    Port:", &list(inside)]);
    page.line(&["    Host Port:", &list(outside)]);
    for (key, words) in [("    Command:", &container.command), ("    Args:", &container.args)] {
        let words = words.as_deref().unwrap_or_default();
        if !words.is_empty() {
            page.line(&[key]);
            words.iter().flat_map(|word| word.lines()).for_each(|line| page.line(&[&format!("      {line}")]));
        }
    }
    if let Some(status) = status {
        describe_state(page, "    State:", status.state.as_ref());
        if status.last_state.as_ref().is_some_and(|last| last.terminated.is_some()) {
            describe_state(page, "    Last State:", status.last_state.as_ref());
        }
        page.line(&["    Ready:", if status.ready { "True" } else { "False" }]);
        page.line(&["    Restart Count:", &status.restart_count.to_string()]);
    }
    let resources = container.resources.clone().unwrap_or_default();
    for (key, values) in [("    Limits:", resources.limits), ("    Requests:", resources.requests)] {
        quantities(page, key, values.unwrap_or_default());
    }
    environment(page, container);
    let mounts = container.volume_mounts.iter().flatten().map(|mount| {
        let mode = if mount.read_only == Some(true) { "ro" } else { "rw" };
        format!("{} from {} ({mode})", mount.mount_path, mount.name)
    });
    page.below("    Mounts:", mounts.collect());
}

fn environment(page: &mut Page, container: &Container) {
    let variables = container.env.as_deref().unwrap_or_default();
    if variables.is_empty() {
        page.line(&["    Environment:", "<none>"]);
        return;
    }
    page.line(&["    Environment:"]);
    for variable in variables {
        let value = variable.value.as_deref().unwrap_or_default();
        for (number, line) in value.split('\n').enumerate() {
            let name = if number == 0 { format!("      {}:", variable.name) } else { "      ".to_owned() };
            page.line(&[&name, line]);
        }
    }
}

fn describe_state(page: &mut Page, key: &str, state: Option<&ContainerState>) {
    let none = ContainerState::default();
    let state = state.unwrap_or(&none);
    if let Some(running) = &state.running {
        page.line(&[key, "Running"]);
        page.line(&["      Started:", &time(running.started_at.as_ref())]);
    } else if let Some(ended) = &state.terminated {
        page.line(&[key, "Terminated"]);
        describe_end(page, ended);
    } else {
        page.line(&[key, "Waiting"]);
        let waiting = state.waiting.clone().unwrap_or_default();
        for (key, value) in [("      Reason:", waiting.reason), ("      Message:", waiting.message)] {
            if let Some(value) = value {
                page.line(&[key, &value]);
            }
        }
    }
}

fn describe_end(page: &mut Page, ended: &ContainerStateTerminated) {
    for (key, value) in [("      Reason:", &ended.reason), ("      Message:", &ended.message)] {
        if let Some(value) = value {
            page.line(&[key, value.trim_end()]);
        }
    }
    page.line(&["      Exit Code:", &ended.exit_code.to_string()]);
    if let Some(signal) = ended.signal.filter(|signal| *signal > 0) {
        page.line(&["      Signal:", &signal.to_string()]);
    }
    page.line(&["      Started:", &time(ended.started_at.as_ref())]);
    page.line(&["      Finished:", &time(ended.finished_at.as_ref())]);
}

fn quantities(page: &mut Page, key: &str, values: BTreeMap<String, Quantity>) {
    if values.is_empty() {
        return;
    }
    page.line(&[key]);
    values.iter().for_each(|(name, quantity)| page.line(&[&format!("      {name}:"), &quantity.0]));
}

fn conditions(page: &mut Page, status: &PodStatus) {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if conditions.is_empty() {
        return;
    }
    page.line(&["Conditions:"]);
    page.line(&["  Type", "Status"]);
    conditions.iter().for_each(|c| page.line(&[&format!("  {}", c.type_), &c.status]));
}

fn volumes(page: &mut Page, volumes: &[Volume]) {
    if volumes.is_empty() {
        page.line(&["Volumes:", "<none>"]);
        return;
    }
    page.line(&["Volumes:"]);
    for volume in volumes {
        page.line(&[&format!("  {}:", volume.name)]);
        if let Some(path) = &volume.host_path {
            page.line(&["    Type:", "HostPath (bare host directory volume)"]);
            page.line(&["    Path:", &path.path]);
            page.line(&["    HostPathType:", path.type_.as_deref().unwrap_or_default()]);
        } else if let Some(dir) = &volume.empty_dir {
            page.line(&["    Type:", "EmptyDir (a temporary directory that shares a pod's lifetime)"]);
            page.line(&["    Medium:", dir.medium.as_deref().unwrap_or_default()]);
            page.line(&["    SizeLimit:", dir.size_limit.as_ref().map_or("<unset>", |limit| limit.0.as_str())]);
        } else {
            page.line(&["    Type:", "<unknown>"]);
        }
    }
}

fn pairs(map: Option<&BTreeMap<String, String>>, between: &str) -> Vec<String> {
    map.into_iter().flatten().map(|(key, value)| format!("{key}{between}{value}")).collect()
}

/// RFC 1123 with the zone as a number, as kubectl prints times; always in UTC.
fn time(time: Option<&Time>) -> String {
    let text = |time: &Time| time.0.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
    time.map_or_else(|| "<unknown>".to_owned(), text)
}

/// Lines of cells. Cells above each other in an unbroken run of lines are equally wide (Go's tabwriter).
#[derive(Default)]
struct Page {
    lines: Vec<Vec<String>>,
}

impl Page {
    fn line(&mut self, cells: &[&str]) {
        self.lines.push(cells.iter().map(|cell| (*cell).to_owned()).collect());
    }

    /// The first value beside the key, the others below it.
    fn list(&mut self, key: &str, values: Vec<String>) {
        match values.split_first() {
            None => self.line(&[key, "<none>"]),
            Some((first, rest)) => {
                self.line(&[key, first]);
                rest.iter().for_each(|value| self.line(&["", value]));
            }
        }
    }

    /// All values on lines of their own below the key.
    fn below(&mut self, key: &str, values: Vec<String>) {
        if values.is_empty() {
            self.line(&[key, "<none>"]);
            return;
        }
        self.line(&[key]);
        values.iter().for_each(|value| self.line(&[&format!("      {value}")]));
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for (at, line) in self.lines.iter().enumerate() {
            let mut row = String::new();
            for (column, cell) in line.iter().enumerate() {
                row.push_str(cell);
                if column + 1 < line.len() {
                    let pad = self.width(at, column) - cell.chars().count();
                    row.extend(std::iter::repeat_n(' ', pad));
                }
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }

    /// Of the run of lines around `at` that have a cell behind `column`.
    fn width(&self, at: usize, column: usize) -> usize {
        let has = |line: &&Vec<String>| line.len() > column + 1;
        let before = self.lines[..at].iter().rev().take_while(has);
        let after = self.lines[at..].iter().take_while(has);
        before.chain(after).map(|line| line[column].chars().count()).max().unwrap_or(0) + GAP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_GOLDEN=1` writes what is printed now.
    fn golden(name: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cli").join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, text).expect("written");
        }
        assert_eq!(text, std::fs::read_to_string(&path).expect("golden file"), "{name}");
    }

    fn object(name: &str) -> Pod {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cli").join(name);
        serde_json::from_slice(&std::fs::read(path).expect("a pod")).expect("a pod")
    }

    #[test]
    fn a_running_and_a_crashing_pod_read_as_under_kubectl() {
        for name in ["running", "crashing"] {
            let pod = object(&format!("{name}.json"));
            golden(&format!("{name}.describe.txt"), &text(&pod, None, None));
        }
    }

    #[test]
    fn the_events_come_last() {
        let line = |words: [&str; 5]| words.map(str::to_owned);
        let events = [
            line(["Normal", "Started", "3m20s", "kubelet", "Container started"]),
            line(["Warning", "BackOff", "50s (x5 over 3m20s)", "kubelet", "Back-off"]),
        ];
        let expected = "\
Events:
  Type     Reason   Age                  From     Message
  ----     ------   ----                 ----     -------
  Normal   Started  3m20s                kubelet  Container started
  Warning  BackOff  50s (x5 over 3m20s)  kubelet  Back-off
";
        assert!(text(&Pod::default(), None, Some(&events)).ends_with(expected));
        assert!(text(&Pod::default(), None, Some(&[])).ends_with("\nEvents:  <none>\n"));
    }
}
