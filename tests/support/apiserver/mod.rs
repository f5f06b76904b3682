//! A double of the Kubernetes API server, for tests: it keeps objects and answers as kube-apiserver v1.36 does where a
//! node agent and kubectl look, and it fails in every way that a network and a server can fail.
//!
//! It serves over loopback only, with one thread for each connection, and is driven from the test through
//! [`ApiServer`]. It stands on its own: a test takes it in with `#[path = "support/apiserver/mod.rs"] mod apiserver;`.
//!
//! Not there: managed fields and server-side apply, JSON patch, finalizers, admission webhooks, most of validation.

#![allow(dead_code, unused_imports)]

mod admission;
mod age;
mod answer;
pub mod authority;
mod authorize;
mod cells;
mod connection;
mod date;
mod deletion;
mod der;
mod discovery;
mod fault;
mod fresh;
mod garbage;
mod identity;
mod journal;
mod kubeconfig;
mod listener;
mod merge;
mod podsecurity;
mod qos;
pub mod resource;
mod rooms;
mod route;
mod selector;
mod shape;
mod signing;
mod status;
mod store;
pub mod strategic;
mod strategy;
mod table;
mod tls;
mod watch;
mod wire;

pub use authority::Identity;
pub use fault::Fault;
pub use identity::User;
pub use journal::{Entry, Journal};
pub use kubeconfig::Kubeconfig;
pub use listener::raise_descriptor_limit;
pub use store::Object;
pub use watch::Cut;
pub use wire::Request;

use authority::Authority;
use fault::Faults;
use identity::Users;
use listener::Connections;
use resource::{NAMESPACES, NODES, PODS, Resource};
use rooms::Rooms;
use serde_json::{Value, json};
use signing::Signing;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime};
use store::{Key, Store};

/// The token of a user who may do everything.
pub const ADMIN: &str = "admin-token";
/// The token of a node that has no certificate yet.
pub const BOOTSTRAP: &str = "abcdef.0123456789abcdef";

type Wrap = Box<dyn Fn(TcpStream) -> std::io::Result<Box<dyn wire::Duplex>> + Send + Sync>;

/// What requests see and change, one at a time.
pub struct State {
    store: Store,
    users: Users,
    /// Every cut there ever was: a watch ends at the first one after its own begin.
    cuts: Vec<Cut>,
    /// Bookmarks that were asked for.
    bookmarks: u64,
    bookmark_interval: Duration,
    /// Garbage is collected as soon as a Node is deleted.
    collects: bool,
    signing: Signing,
}

pub struct Shared {
    state: Mutex<State>,
    rooms: Rooms,
    journal: Journal,
    faults: Faults,
    connections: Connections,
    wrap: Option<Wrap>,
    listening: AtomicBool,
    stopping: AtomicBool,
    /// New connections are accepted and never answered.
    hangs: AtomicBool,
    /// Connections up to this one are silent.
    frozen: AtomicU64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn notify(&self) {
        self.rooms.ring_all();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn is_frozen(&self, connection: u64) -> bool {
        connection <= self.frozen.load(Ordering::SeqCst)
    }

    fn is_open(&self, connection: u64) -> bool {
        self.connections.is_open(connection)
    }
}

/// The double, and every handle that tests have on it. Dropping it closes everything.
pub struct ApiServer {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Mutex<Option<thread::JoinHandle<()>>>,
    authority: Arc<Authority>,
}

impl ApiServer {
    /// Over plain HTTP, on a port of its own, with the namespaces of a new cluster, up.
    pub fn start() -> ApiServer {
        ApiServer::serve(Arc::new(Authority::new()), None)
    }

    /// Over TLS, with a certificate for the addresses of loopback and for `localhost`.
    pub fn start_tls() -> ApiServer {
        ApiServer::start_tls_as(&["127.0.0.1", "::1", "localhost", "kubernetes"])
    }

    /// Over TLS, with a certificate for these names and addresses alone.
    pub fn start_tls_as(names: &[&str]) -> ApiServer {
        let authority = Arc::new(Authority::new());
        let config = tls::config(&authority, &authority.server(names));
        ApiServer::serve(authority, Some(Box::new(move |stream| tls::wrap(&config, stream))))
    }

    fn serve(authority: Arc<Authority>, wrap: Option<Wrap>) -> ApiServer {
        let mut users = Users::default();
        users.add(ADMIN, User::new("kubernetes-admin", &["system:masters"]));
        users.add(BOOTSTRAP, User::new("system:bootstrap:abcdef", &["system:bootstrappers"]));
        let mut store = Store::new();
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
                "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
            });
            answer::seed(&mut store, &namespace);
        }
        let state = State {
            store,
            users,
            cuts: Vec::new(),
            bookmarks: 0,
            bookmark_interval: Duration::from_secs(60),
            collects: false,
            signing: Signing {
                authority: Some(authority.clone()),
                approves: false,
                life: Duration::from_secs(365 * 86400),
            },
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            rooms: Rooms::default(),
            journal: Journal::default(),
            faults: Faults::default(),
            connections: Connections::default(),
            wrap,
            listening: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            frozen: AtomicU64::new(0),
        });
        let listener = listener::bind(0);
        let port = listener.local_addr().expect("it is bound").port();
        let acceptor = Mutex::new(Some(listener::open(&shared, listener)));
        ApiServer { shared, port, acceptor, authority }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        let scheme = if self.shared.wrap.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    // Users.

    pub fn add_token(&self, token: &str, user: User) {
        self.shared.state().users.add(token, user);
    }

    pub fn remove_token(&self, token: &str) {
        self.shared.state().users.remove(token);
    }

    /// Who shows neither token nor certificate is this user. For kubectl, which sends no token over plain HTTP.
    pub fn set_anonymous(&self, user: Option<User>) {
        self.shared.state().users.anonymous = user;
    }

    /// The token of the kubelet of this node.
    pub fn node_token(&self, node: &str) -> String {
        let token = format!("node-token-{node}");
        self.add_token(&token, User::new(&format!("system:node:{node}"), &["system:nodes"]));
        token
    }

    // Certificates.

    /// The authority's certificate, as PEM.
    pub fn ca(&self) -> String {
        self.authority.pem()
    }

    /// A certificate and a key for a user in one group, valid for a day.
    pub fn client_certificate(&self, name: &str, group: &str) -> Identity {
        let begin = SystemTime::now() - Duration::from_secs(3600);
        self.authority.client(name, &[group], begin, Duration::from_secs(86400))
    }

    /// The same for the kubelet of a node, valid from `begin` for `life`.
    pub fn node_certificate(&self, node: &str, begin: SystemTime, life: Duration) -> Identity {
        self.authority.client(&format!("system:node:{node}"), &["system:nodes"], begin, life)
    }

    /// Signing requests that are right are approved and signed as they come, for this long at most.
    pub fn approve_automatically(&self, life: Duration) {
        let mut state = self.shared.state();
        state.signing.approves = true;
        state.signing.life = life;
    }

    /// Approves one by hand, and signs it if it is right.
    pub fn approve(&self, request: &str) -> bool {
        let mut guard = self.shared.state();
        let State { store, signing, .. } = &mut *guard;
        let found = signing.approve(store, request);
        drop(guard);
        self.shared.notify();
        found
    }

    pub fn deny(&self, request: &str) -> bool {
        let found = Signing::deny(&mut self.shared.state().store, request);
        self.shared.notify();
        found
    }

    // Objects, past authorization and admission.

    /// As it is; what it lacks of uid and creation time is made up.
    pub fn put(&self, object: &Value) -> Object {
        let stored = answer::seed(&mut self.shared.state().store, object);
        self.shared.notify();
        stored
    }

    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Object> {
        self.shared.state().store.get(&Key::new(resource, namespace, name))
    }

    pub fn list(&self, resource: &Resource) -> Vec<Object> {
        self.shared.state().store.list(resource, "")
    }

    pub fn pod(&self, namespace: &str, name: &str) -> Option<Object> {
        self.get(&PODS, namespace, name)
    }

    pub fn node(&self, name: &str) -> Option<Object> {
        self.get(&NODES, "", name)
    }

    /// Gone at once; whether it was there.
    pub fn remove(&self, resource: &Resource, namespace: &str, name: &str) -> bool {
        let mut state = self.shared.state();
        let gone = state.store.remove(&Key::new(resource, namespace, name)).is_some();
        if gone && *resource == NODES && state.collects {
            garbage::collect(&mut state.store);
        }
        drop(state);
        self.shared.notify();
        gone
    }

    /// Changes what is stored in place; false where nothing is.
    pub fn edit(&self, resource: &Resource, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) -> bool {
        let key = Key::new(resource, namespace, name);
        let mut state = self.shared.state();
        let Some(object) = state.store.get(&key) else { return false };
        let mut object = (*object).clone();
        edit(&mut object);
        state.store.put(key, object);
        drop(state);
        self.shared.notify();
        true
    }

    pub fn add_namespace(&self, name: &str) {
        self.put(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name }, "status": { "phase": "Active" },
        }));
    }

    pub fn remove_namespace(&self, name: &str) -> bool {
        self.remove(&NAMESPACES, "", name)
    }

    /// The version of the newest change.
    pub fn version(&self) -> u64 {
        self.shared.state().store.version()
    }

    /// What the garbage collector would do now: mirrors and leases whose Node is gone are deleted, gracefully.
    pub fn collect_garbage(&self) -> usize {
        let count = garbage::collect(&mut self.shared.state().store);
        self.shared.notify();
        count
    }

    /// What the pod collector would do now: pods of nodes that do not exist end at once.
    pub fn collect_unbound_pods(&self) -> usize {
        let count = garbage::collect_unbound(&mut self.shared.state().store);
        self.shared.notify();
        count
    }

    /// What the namespace controller would do now: empties namespaces that were deleted, gracefully, and ends those that
    /// are empty; how many ended.
    pub fn collect_namespaces(&self) -> usize {
        let count = garbage::collect_namespaces(&mut self.shared.state().store);
        self.shared.notify();
        count
    }

    /// From now on garbage is collected whenever a Node is deleted.
    pub fn collect_automatically(&self) {
        self.shared.state().collects = true;
    }

    // The journal.

    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// Those that are open now.
    pub fn connections(&self) -> usize {
        self.shared.connections.count()
    }

    /// Those that there ever were.
    pub fn connections_total(&self) -> u64 {
        self.shared.connections.total()
    }

    // Failures.

    /// The next `times` requests that match meet the fault; `None`: all, until [`ApiServer::heal`].
    pub fn fail(&self, times: Option<u64>, fault: Fault, matches: impl Fn(&Request) -> bool + Send + 'static) -> u64 {
        self.shared.faults.add(times, fault, matches)
    }

    pub fn heal(&self, id: u64) {
        self.shared.faults.heal(id);
    }

    pub fn heal_all(&self) {
        self.shared.faults.heal_all();
        self.shared.hangs.store(false, Ordering::SeqCst);
    }

    /// Closes the port and all connections: clients are refused.
    pub fn down(&self) {
        if let Some(acceptor) = self.acceptor.lock().expect("no holder panics").take() {
            listener::close(&self.shared, self.port, acceptor);
            self.shared.notify();
        }
    }

    /// On the same port again, with all that was stored.
    pub fn up(&self) {
        let mut acceptor = self.acceptor.lock().expect("no holder panics");
        if acceptor.is_none() {
            *acceptor = Some(listener::open(&self.shared, listener::bind(self.port)));
        }
    }

    /// New connections are accepted and get no answer, until [`ApiServer::heal_all`].
    pub fn hang(&self) {
        self.shared.hangs.store(true, Ordering::SeqCst);
    }

    /// The connections of now fall silent, without an end: as behind a router that forgot them. New ones work.
    pub fn freeze(&self) {
        self.shared.frozen.store(self.shared.connections.total(), Ordering::SeqCst);
        self.shared.notify();
    }

    /// Ends the watches of now.
    pub fn cut_watches(&self, cut: Cut) {
        self.shared.state().cuts.push(cut);
        self.shared.notify();
    }

    /// Forgets the history: a watch from any version before this is told 410.
    pub fn compact(&self) {
        self.shared.state().store.compact();
    }

    /// From now on the caches of the Node authorizer and of NodeRestriction learn of new objects this much later: a node
    /// may not read the pod that it just created, and its Node does not exist for its mirrors.
    pub fn set_cache_lag(&self, lag: Duration) {
        self.shared.state().store.lag = lag;
    }

    /// A bookmark to every watch that takes them, now.
    pub fn send_bookmarks(&self) {
        self.shared.state().bookmarks += 1;
        self.shared.notify();
    }

    pub fn set_bookmark_interval(&self, interval: Duration) {
        self.shared.state().bookmark_interval = interval;
        self.shared.notify();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.down();
    }
}
