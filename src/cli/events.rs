//! `get events`, and the table of them under `describe pod`: what the agent remembers of the last hour, as kubectl's
//! printers show it (printEvent, DescribeEvents).

use super::args::{Format, Get};
use super::client::{Client, percent_encode};
use super::error::VerbError;
use super::get::document;
use super::output;
use super::pod_row::age;
use super::table::Table;
use crate::model::time::Wall;
use crate::sys::clock;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Event, Pod};
use std::path::Path;

/// `namespaces`: with a column that says which, as kubectl does for `-A`.
pub fn get(run_dir: &Path, get: &Get, namespaces: bool) -> Result<u8, VerbError> {
    let mut events = list(&Client::new(run_dir), get.namespace.as_deref())?;
    if let Some(name) = &get.name {
        events = named(events, name);
        if events.is_empty() {
            return Err(VerbError::NoSuchEvent { name: name.clone() });
        }
    }
    let now = Wall(clock::realtime_ns());
    let text = match get.format {
        Format::Table | Format::Wide => table(&events, get.format == Format::Wide, namespaces, now),
        Format::Name => events.iter().map(|event| format!("event/{}\n", name_of(event))).collect(),
        Format::Json | Format::Yaml => match (events.len(), &get.name) {
            (1, Some(name)) if name_of(&events[0]) == name => document(&events[0], get.format),
            _ => document(&List::<Event> { items: events, ..List::default() }, get.format),
        },
    };
    if text.is_empty() {
        output::complain("No resources found");
    }
    output::print(text.as_bytes())?;
    Ok(0)
}

/// Of all namespaces, or of one; what happened last comes last.
pub fn list(client: &Client, namespace: Option<&str>) -> Result<Vec<Event>, VerbError> {
    let target = match namespace {
        Some(namespace) => format!("/api/v1/namespaces/{}/events", percent_encode(namespace)),
        None => "/api/v1/events".to_owned(),
    };
    let list: List<Event> = client.get(&target)?;
    Ok(sorted(list.items))
}

/// Those of one second stay as the agent has them: in the order in which they happened.
fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    events
}

/// The event of this name; else those of the object of this name, a pod's also as its manifest has it.
fn named(events: Vec<Event>, name: &str) -> Vec<Event> {
    let about = |event: &Event| {
        let object = event.involved_object.name.as_deref().unwrap_or_default();
        let node = event.source.as_ref().and_then(|source| source.host.as_deref()).unwrap_or_default();
        let manifest_name = object.strip_suffix(node).and_then(|rest| rest.strip_suffix('-'));
        object == name || (event.involved_object.kind.as_deref() == Some("Pod") && manifest_name == Some(name))
    };
    let (own, others): (Vec<Event>, Vec<Event>) = events.into_iter().partition(|event| name_of(event) == name);
    if own.is_empty() { others.into_iter().filter(about).collect() } else { own }
}

fn name_of(event: &Event) -> &str {
    event.metadata.name.as_deref().unwrap_or_default()
}

/// Empty where there is no event.
fn table(events: &[Event], wide: bool, namespaces: bool, now: Wall) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut header = vec!["LAST SEEN", "TYPE", "REASON", "OBJECT"];
    if wide {
        header.extend(["SUBOBJECT", "SOURCE", "MESSAGE", "FIRST SEEN", "COUNT", "NAME"]);
    } else {
        header.push("MESSAGE");
    }
    if namespaces {
        header.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&header);
    for event in events {
        table.add_as_is(row(event, wide, namespaces, now));
    }
    table.render()
}

fn row(event: &Event, wide: bool, namespaces: bool, now: Wall) -> Vec<String> {
    let object = &event.involved_object;
    let kind = object.kind.as_deref().unwrap_or_default().to_lowercase();
    let mut cells = vec![
        age(event.last_timestamp.as_ref(), now),
        event.type_.clone().unwrap_or_default(),
        event.reason.clone().unwrap_or_default(),
        format!("{kind}/{}", object.name.as_deref().unwrap_or_default()),
    ];
    let message = one_line(event.message.as_deref().unwrap_or_default());
    if wide {
        let source = event.source.clone().unwrap_or_default();
        let source = [source.component, source.host].into_iter().flatten().collect::<Vec<_>>().join(", ");
        cells.extend([
            object.field_path.clone().unwrap_or_default(),
            source,
            message,
            age(event.first_timestamp.as_ref(), now),
            event.count.unwrap_or(1).to_string(),
            name_of(event).to_owned(),
        ]);
    } else {
        cells.push(message);
    }
    if namespaces {
        cells.insert(0, event.metadata.namespace.clone().unwrap_or_default());
    }
    cells
}

/// kubectl's tables end a cell at its first line.
fn one_line(message: &str) -> String {
    let message = message.trim();
    match message.find(['\n', '\r', '\x0c']) {
        Some(end) => format!("{}...", &message[..end]),
        None => message.to_owned(),
    }
}

/// Those of one pod, told from a namesake's by its UID.
pub fn of_pod(events: Vec<Event>, pod: &Pod) -> Vec<Event> {
    let is_its = |event: &Event| {
        event.involved_object.kind.as_deref() == Some("Pod")
            && event.involved_object.uid.is_some()
            && event.involved_object.uid == pod.metadata.uid
    };
    events.into_iter().filter(is_its).collect()
}

/// The lines under `Events:`: type, reason, age, source and message.
pub fn described(events: &[Event], now: Wall) -> Vec<[String; 5]> {
    let line = |event: &Event| {
        let first = age(event.first_timestamp.as_ref(), now);
        let seen = match event.count {
            Some(count) if count > 1 => format!("{} (x{count} over {first})", age(event.last_timestamp.as_ref(), now)),
            Some(_) | None => first,
        };
        let source = event.source.as_ref().and_then(|source| source.component.clone());
        [
            event.type_.clone().unwrap_or_default(),
            event.reason.clone().unwrap_or_default(),
            seen,
            source.or(event.reporting_component.clone()).unwrap_or_default(),
            event.message.as_deref().unwrap_or_default().trim().to_owned(),
        ]
    };
    events.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// 2023-11-14T22:15:00Z.
    const NOW: Wall = Wall(1_700_000_100_000_000_000);

    fn event(name: &str, reason: &str, count: i32, message: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": format!("{name}.1"), "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": name, "uid": name, "fieldPath": "spec.containers{c}"},
            "type": "Normal",
            "reason": reason,
            "message": message,
            "count": count,
            "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "2023-11-14T22:11:40Z",
            "lastTimestamp": "2023-11-14T22:14:10Z",
        }))
        .expect("an event")
    }

    #[test]
    fn tables_have_kubectls_columns() {
        let events = [event("web-n", "Started", 1, "Container started"), event("b-n", "Failed", 3, " Error: a\nb ")];
        let expected = "\
LAST SEEN   TYPE     REASON    OBJECT      MESSAGE
50s         Normal   Started   pod/web-n   Container started
50s         Normal   Failed    pod/b-n     Error: a...
";
        assert_eq!(table(&events, false, false, NOW), expected);
        let expected = "\
NAMESPACE   LAST SEEN   TYPE     REASON   OBJECT    SUBOBJECT            SOURCE       MESSAGE       FIRST SEEN   COUNT   NAME
default     50s         Normal   Failed   pod/b-n   spec.containers{c}   kubelet, n   Error: a...   3m20s        3       b-n.1
";
        assert_eq!(table(&events[1..], true, true, NOW), expected);
        assert_eq!(table(&[], true, true, NOW), "");
    }

    #[test]
    fn what_happened_last_comes_last() {
        let mut late = event("a-n", "Late", 1, "");
        late.last_timestamp = serde_json::from_value(json!("2023-11-14T22:14:11Z")).expect("a time");
        let events = vec![late, event("a-n", "Z", 1, ""), event("a-n", "A", 1, "")];
        assert_eq!(sorted(events).into_iter().filter_map(|e| e.reason).collect::<String>(), "ZALate");
    }

    #[test]
    fn an_event_goes_by_its_name_and_by_that_of_its_object() {
        let events = || vec![event("web-n", "A", 1, ""), event("web-n", "B", 1, ""), event("b-n", "C", 1, "")];
        let found = |name| named(events(), name).into_iter().filter_map(|e| e.reason).collect::<String>();
        assert_eq!(["web-n", "web", "b-n.1", "we", "n"].map(found), ["AB", "AB", "C", "", ""]);
    }

    #[test]
    fn a_repeated_event_says_how_often_and_over_how_long() {
        let lines = described(&[event("web-n", "A", 1, " x "), event("web-n", "B", 5, "y")], NOW);
        assert_eq!(lines[0], ["Normal", "A", "3m20s", "kubelet", "x"]);
        assert_eq!(lines[1][2], "50s (x5 over 3m20s)");
    }
}
