//! A pod as `get pods -o json` shows it.

use serde_json::Value;

#[derive(Clone, Debug)]
pub struct PodView(pub Value);

impl PodView {
    fn text(&self, pointer: &str) -> String {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub fn name(&self) -> String {
        self.text("/metadata/name")
    }

    pub fn namespace(&self) -> String {
        self.text("/metadata/namespace")
    }

    pub fn uid(&self) -> String {
        self.text("/metadata/uid")
    }

    pub fn phase(&self) -> String {
        self.text("/status/phase")
    }

    pub fn ip(&self) -> String {
        self.text("/status/podIP")
    }

    pub fn is_terminating(&self) -> bool {
        self.0.pointer("/metadata/deletionTimestamp").is_some()
    }

    /// The status of the container named `name`, `null` where there is none.
    pub fn status(&self, name: &str) -> &Value {
        self.0
            .pointer("/status/containerStatuses")
            .and_then(Value::as_array)
            .and_then(|all| all.iter().find(|s| s["name"] == name))
            .unwrap_or(&Value::Null)
    }

    pub fn restarts(&self, name: &str) -> u64 {
        self.status(name)["restartCount"].as_u64().unwrap_or_default()
    }

    pub fn is_running(&self, name: &str) -> bool {
        self.status(name)["state"]["running"].is_object() && !self.is_terminating()
    }

    /// `status.containerStatuses[name].state.waiting.reason`, empty where it does not wait.
    pub fn waiting(&self, name: &str) -> String {
        self.status(name)["state"]["waiting"]["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// The terminated state that is now, else the last one; `null` where there is none.
    pub fn terminated(&self, name: &str) -> &Value {
        let status = self.status(name);
        let now = &status["state"]["terminated"];
        if now.is_object() { now } else { &status["lastState"]["terminated"] }
    }

    /// The 64 hex digits of the current container's id.
    pub fn container_id(&self, name: &str) -> String {
        let id = self.status(name)["containerID"].as_str().unwrap_or_default();
        id.trim_start_matches("pinlet://").to_owned()
    }

    pub fn condition(&self, name: &str) -> String {
        self.0
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .and_then(|all| all.iter().find(|c| c["type"] == name))
            .and_then(|c| c["status"].as_str())
            .unwrap_or_default()
            .to_owned()
    }
}
