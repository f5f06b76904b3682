//! `get pods` and `get images`.

use super::args::{Format, Get};
use super::client::Client;
use super::error::VerbError;
use super::output;
use super::pod_name;
use super::pod_row::pod_row;
use super::table::Table;
use super::yaml_text::yaml_text;
use crate::model::time::Wall;
use crate::server::wire::{ImageEntry, ManifestsReport};
use crate::sys::clock;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;

pub fn pods(run_dir: &Path, get: &Get) -> Result<u8, VerbError> {
    let client = Client::new(run_dir);
    let all = pod_name::list(&client, get.namespace.as_deref())?;
    let pods = match &get.name {
        None => all,
        Some(name) => pod_name::matching(all, name),
    };
    let manifests: ManifestsReport = client.get("/pinlet/v1/manifests")?;
    if let (Some(name), true) = (&get.name, pods.is_empty()) {
        complain_of_rejected(&manifests);
        return Err(VerbError::NoSuchPod { name: name.clone() });
    }
    let now = Wall(clock::realtime_ns());
    let text = match get.format {
        Format::Table | Format::Wide => pod_table(&pods, get.format == Format::Wide, now),
        Format::Name => pods.iter().map(|pod| format!("pod/{}\n", pod_name::key(pod)[1])).collect(),
        Format::Json | Format::Yaml => document(&pod_document(pods, get.name.is_some()), get.format),
    };
    // Most people read from the bottom: pods last.
    complain_of_rejected(&manifests);
    if text.is_empty() {
        output::complain("No resources found");
    }
    output::print(text.as_bytes())?;
    Ok(0)
}

fn complain_of_rejected(manifests: &ManifestsReport) {
    manifests.manifests.iter().filter_map(|report| report.rejection()).for_each(|line| output::complain(&line));
}

/// Empty where there is no pod.
fn pod_table(pods: &[Pod], wide: bool, now: Wall) -> String {
    if pods.is_empty() {
        return String::new();
    }
    let header = ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"];
    let columns = if wide { 8 } else { 6 };
    let mut table = Table::new(&header[..columns]);
    for pod in pods {
        let row = pod_row(pod, now);
        let mut cells = vec![row.namespace, row.name, row.ready, row.status, row.restarts, row.age, row.ip, row.node];
        cells.truncate(columns);
        table.add(cells);
    }
    table.render()
}

/// As kubectl: the object itself where one was named, else a list.
fn pod_document(mut pods: Vec<Pod>, named: bool) -> impl Serialize {
    let value = match (named, pods.len()) {
        (true, 1) => pods.pop().map(serde_json::to_value),
        _ => Some(serde_json::to_value(List::<Pod> { items: pods, ..List::default() })),
    };
    // Kubernetes' own types always become JSON.
    value.and_then(Result::ok).unwrap_or(Value::Null)
}

/// As JSON with kubectl's indentation, or as YAML.
pub(super) fn document(value: &impl Serialize, format: Format) -> String {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    if format == Format::Yaml {
        return yaml_text(&value);
    }
    let mut text = Vec::new();
    let pretty = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, pretty);
    // A value in memory always becomes text in memory.
    let _ = value.serialize(&mut serializer);
    String::from_utf8_lossy(&text).into_owned() + "\n"
}

pub fn images(run_dir: &Path, get: &Get) -> Result<u8, VerbError> {
    let mut images: Vec<ImageEntry> = Client::new(run_dir).get_from_disk("/pinlet/v1/images")?;
    images.sort_by(|a, b| a.names.cmp(&b.names));
    if let Some(name) = &get.name {
        images.retain(|image| is_named(image, name));
        if images.is_empty() {
            return Err(VerbError::NoSuchImage { name: name.clone() });
        }
    }
    let text = match get.format {
        Format::Table | Format::Wide => image_table(&images, get.format == Format::Wide),
        Format::Name => images.iter().flat_map(|image| &image.names).map(|name| format!("image/{name}\n")).collect(),
        Format::Json | Format::Yaml => {
            let entry =
                |image: &ImageEntry| json!({"names": image.names, "sizeBytes": image.size_bytes, "id": image.id});
            document(&images.iter().map(entry).collect::<Vec<_>>(), get.format)
        }
    };
    if text.is_empty() {
        output::complain("No resources found");
    }
    output::print(text.as_bytes())?;
    Ok(0)
}

/// By a whole name, a name without its tag or its host, or the beginning of the id.
fn is_named(image: &ImageEntry, wanted: &str) -> bool {
    let digits = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    let by_id = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let by_name = |name: &String| {
        let (repository, _) = split_name(name);
        let short = |text: &str| text.split_once('/').is_some_and(|(_, path)| path == wanted);
        name == wanted || repository == wanted || short(name) || short(repository)
    };
    image.names.iter().any(by_name) || (by_id.len() >= 12 && digits.starts_with(by_id))
}

/// One row per tag, or one for an image without any.
fn image_table(images: &[ImageEntry], wide: bool) -> String {
    let header = ["IMAGE", "TAG", "ID", "SIZE", "DIGEST", "PINNED"];
    let columns = if wide { 6 } else { 4 };
    let mut table = Table::new(&header[..columns]);
    let mut rows = Vec::new();
    for image in images {
        let named: Vec<(&str, &str)> = image.names.iter().map(|name| split_name(name)).collect();
        let mut tags: Vec<(&str, &str)> =
            named.iter().copied().filter(|(_, tag)| !tag.starts_with("sha256:")).collect();
        if tags.is_empty() {
            tags.push((named.first().map_or("", |(repository, _)| repository), ""));
        }
        for (repository, tag) in tags {
            let id: String = image.id.strip_prefix("sha256:").unwrap_or(&image.id).chars().take(12).collect();
            let digest = image.digest.clone().unwrap_or_default();
            let size = size_text(image.size_bytes);
            let mut cells = vec![repository.to_owned(), tag.to_owned(), id, size, digest, image.pinned.to_string()];
            cells.truncate(columns);
            rows.push(cells);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    rows.sort();
    rows.into_iter().for_each(|cells| table.add(cells));
    table.render()
}

/// Repository, and tag or digest.
fn split_name(name: &str) -> (&str, &str) {
    if let Some((repository, digest)) = name.split_once('@') {
        return (repository, digest);
    }
    match name.rsplit_once(':') {
        // A colon before a slash belongs to a port.
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

/// As crictl prints it (docker/go-units, HumanSizeWithPrecision 3): decimal units, three digits.
fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    // Go's %.3g, without an exponent: below 1000 there are three digits before the point at most.
    let decimals = if size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{size:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(names: &[&str], id: &str, size_bytes: u64) -> ImageEntry {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        ImageEntry { names, id: format!("sha256:{id}"), digest: None, size_bytes, pinned: false }
    }

    #[test]
    fn sizes_are_those_of_crictl() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_234, "1.23kB"),
            (74_100_000, "74.1MB"),
            (74_149_999, "74.1MB"),
            (100_400_000, "100MB"),
            (1_500_000_000, "1.5GB"),
            (9_999, "10kB"),
        ] {
            assert_eq!(size_text(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn an_image_has_a_row_for_each_tag() {
        let images = [
            image(
                &["docker.io/kalise/web:latest", "docker.io/kalise/web:1", "docker.io/kalise/web@sha256:aa"],
                &"0123456789abcdef".repeat(4),
                74_100_000,
            ),
            image(&["localhost:5000/x@sha256:bb"], &"f".repeat(64), 5),
        ];
        let expected = "\
IMAGE                  TAG      ID             SIZE
docker.io/kalise/web   1        0123456789ab   74.1MB
docker.io/kalise/web   latest   0123456789ab   74.1MB
localhost:5000/x       <none>   ffffffffffff   5B
";
        assert_eq!(image_table(&images, false), expected);
        assert!(
            image_table(&images, true)
                .starts_with("IMAGE                  TAG      ID             SIZE     DIGEST   PINNED\n")
        );
        assert_eq!(image_table(&[], false), "");
    }

    #[test]
    fn an_image_is_found_by_what_people_call_it() {
        let web = image(&["docker.io/kalise/web:latest"], &"0123456789abcdef".repeat(4), 1);
        for name in
            ["docker.io/kalise/web:latest", "docker.io/kalise/web", "kalise/web", "kalise/web:latest", "0123456789ab"]
        {
            assert!(is_named(&web, name), "{name}");
        }
        for name in ["web", "kalise/web:1", "0123", "fff"] {
            assert!(!is_named(&web, name), "{name}");
        }
        assert_eq!(split_name("localhost:5000/x"), ("localhost:5000/x", ""));
    }

    #[test]
    fn no_pods_is_an_empty_list_in_a_document_and_nothing_in_a_table() {
        let text = document(&pod_document(Vec::new(), false), Format::Json);
        let value: Value = serde_json::from_str(&text).expect("json");
        assert_eq!((value["kind"].as_str(), value["items"].as_array().map(Vec::len)), (Some("PodList"), Some(0)));
        assert!(document(&pod_document(Vec::new(), false), Format::Yaml).contains("items: []"));
        assert_eq!(pod_table(&[], true, Wall(0)), "");
    }

    #[test]
    fn a_named_pod_is_an_object_of_its_own() {
        let text = document(&pod_document(vec![Pod::default()], true), Format::Json);
        assert!(text.starts_with("{\n    \"apiVersion\": \"v1\",\n    \"kind\": \"Pod\""), "{text}");
    }
}
