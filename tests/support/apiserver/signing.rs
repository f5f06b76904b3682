//! Certificate signing requests as objects: approved by hand or at once, signed as soon as they are approved.

use super::authority::{self, Authority};
use super::date;
use super::identity::User;
use super::resource::REQUESTS;
use super::shape::{items, text};
use super::store::{Key, Store};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// How requests are treated.
pub struct Signing {
    /// None: nothing is ever signed.
    pub authority: Option<Arc<Authority>>,
    /// What is right is approved as it comes.
    pub approves: bool,
    /// Of the certificates; a request may ask for less.
    pub life: Duration,
}

impl Signing {
    /// What controllers do with a request that was just stored.
    pub fn arrived(&self, store: &mut Store, name: &str, user: &User) {
        if self.approves && self.is_approvable(store, name, user) {
            self.approve(store, name);
        }
    }

    /// A node that has no certificate may ask for any node's, one that has for its own.
    fn is_approvable(&self, store: &Store, name: &str, user: &User) -> bool {
        let Some(request) = store.get(&Key::new(&REQUESTS, "", name)) else { return false };
        let Ok(accepted) = read(&request) else { return false };
        user.is_in("system:bootstrappers") || user.is_in("system:masters") || accepted.name == user.name
    }

    /// Approves and signs; what cannot be signed is marked as failed. False where there is none of this name.
    pub fn approve(&self, store: &mut Store, name: &str) -> bool {
        let key = Key::new(&REQUESTS, "", name);
        let Some(request) = store.get(&key) else { return false };
        let mut request = (*request).clone();
        condition(&mut request, "Approved", "AutoApproved", "approved by the double");
        store.put(key.clone(), request.clone());
        let Some(authority) = &self.authority else { return true };
        if text(&request, "/spec/signerName") != SIGNER {
            return true;
        }
        match read(&request) {
            Ok(accepted) => {
                let asked = request["spec"]["expirationSeconds"].as_u64().map(Duration::from_secs);
                let life = asked.map_or(self.life, |asked| asked.min(self.life));
                let pem = authority.sign(&accepted, life).into_bytes();
                request["status"]["certificate"] = serde_json::to_value(ByteString(pem)).expect("text");
            }
            Err(why) => condition(&mut request, "Failed", "SignerValidationFailure", &why),
        }
        store.put(key, request);
        true
    }

    pub fn deny(store: &mut Store, name: &str) -> bool {
        let key = Key::new(&REQUESTS, "", name);
        let Some(request) = store.get(&key) else { return false };
        let mut request = (*request).clone();
        condition(&mut request, "Denied", "DeniedByTest", "denied by the double");
        store.put(key, request);
        true
    }
}

fn read(request: &Value) -> Result<authority::Accepted, String> {
    let pem: ByteString = serde_json::from_value(request["spec"]["request"].clone()).map_err(|e| e.to_string())?;
    let usages: Vec<&str> = items(&request["spec"], "usages").iter().filter_map(Value::as_str).collect();
    authority::check(&pem.0, &usages)
}

fn condition(request: &mut Value, kind: &str, reason: &str, message: &str) {
    let now = date::now();
    let new = json!({
        "type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": now,
        "lastTransitionTime": now,
    });
    match request["status"]["conditions"].as_array_mut() {
        Some(list) => list.push(new),
        None => request["status"]["conditions"] = json!([new]),
    }
}
