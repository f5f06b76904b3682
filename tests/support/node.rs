//! A node under test: an agent with directories, cgroup root, bridge and addresses of its own.
//!
//! It is driven by flags, files and verbs alone. Dropping it takes everything away, whatever state the test left it in;
//! a watchdog does the same where a test hangs, and only then aborts.

use super::image::Image;
use super::verb::{self, Outcome};
use super::view::PodView;
use super::wait::{PATIENCE, expect, wait_for};
use super::{binary, dump, host};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

/// Short, since a socket's path has to fit into 108 bytes.
pub const BASE: &str = "/tmp";
/// No test takes longer unless it says so: far above the sum of the waits of the longest one.
const TEST_LIMIT: Duration = Duration::from_secs(300);
const VERB_LIMIT: Duration = Duration::from_secs(30);

/// What a test wants to be different from the default node.
#[derive(Clone, Default)]
pub struct Setup {
    /// Lines of a `KubeletConfiguration`, besides apiVersion and kind.
    pub config: String,
    /// Added after the usual flags, so that they win.
    pub flags: Vec<String>,
    /// Beside `busybox:1`.
    pub images: Vec<Image>,
    /// `sh -c` text that ends in `exec "$@"`: what the agent inherits.
    pub shell: Option<String>,
    pub env: Vec<(String, String)>,
    /// Instead of the program under test, for upgrades.
    pub program: Option<PathBuf>,
    /// Leave the agent off; the test starts it.
    pub stopped: bool,
    /// No image is preloaded.
    pub no_images: bool,
    /// The run dir lies on a tmpfs, as /run does.
    pub memory_run_dir: bool,
    pub limit: Option<Duration>,
}

impl Setup {
    pub fn config(mut self, lines: &str) -> Setup {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    pub fn flag(mut self, flag: &str) -> Setup {
        self.flags.push(flag.to_owned());
        self
    }

    pub fn image(mut self, image: Image) -> Setup {
        self.images.push(image);
        self
    }

    pub fn memory_run_dir(mut self) -> Setup {
        self.memory_run_dir = true;
        self
    }

    pub fn stopped(mut self) -> Setup {
        self.stopped = true;
        self
    }

    /// The crash loop's delays start at `seconds` instead of 10.
    pub fn restart_period(self, seconds: u32) -> Setup {
        self.config(&format!("crashLoopBackOff: {{maxContainerRestartPeriod: {seconds}s}}"))
    }

    pub fn start(self) -> Node {
        Node::with(self)
    }
}

pub struct Node {
    /// Names everything of this node: directory, cgroup root, bridge and node name.
    pub tag: String,
    pub dir: PathBuf,
    pub setup: Setup,
    agent: Arc<Mutex<Option<Child>>>,
    _watchdog: mpsc::Sender<()>,
}

impl Node {
    pub fn start() -> Node {
        Setup::default().start()
    }

    pub fn with(setup: Setup) -> Node {
        static SWEPT: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(host::sweep_the_dead);
        let tag = format!("pt{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(BASE).join(&tag);
        for part in ["manifests", "root/preload", "run", "logs/pods", "logs/containers", "aside"] {
            fs::create_dir_all(dir.join(part)).expect("a fresh directory");
        }
        if setup.memory_run_dir {
            verb::tool(&["mount", "-t", "tmpfs", "tmpfs", dir.join("run").to_str().expect("text")]);
        }
        let agent = Arc::new(Mutex::new(None));
        let limit = setup.limit.unwrap_or(TEST_LIMIT);
        let watchdog = start_watchdog(tag.clone(), dir.clone(), Arc::clone(&agent), limit);
        let mut node = Node { tag, dir, setup, agent, _watchdog: watchdog };
        if !node.setup.no_images {
            Image::new("busybox:1").write_docker_archive(&node.preload().join("busybox.tar"));
        }
        for (n, image) in node.setup.images.iter().enumerate() {
            image.write_docker_archive(&node.preload().join(format!("extra-{n}.tar")));
        }
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        fs::write(node.dir.join("config.yaml"), format!("{head}{}", node.setup.config)).expect("a fresh file");
        if !node.setup.stopped {
            node.start_agent();
        }
        node
    }

    pub fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub fn preload(&self) -> PathBuf {
        self.root().join("preload")
    }

    pub fn pod_logs(&self) -> PathBuf {
        self.dir.join("logs/pods")
    }

    pub fn container_logs(&self) -> PathBuf {
        self.dir.join("logs/containers")
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    pub fn agent_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    pub fn full_name(&self, pod: &str) -> String {
        format!("{pod}-{}", self.tag)
    }

    pub fn program(&self) -> PathBuf {
        self.setup.program.clone().unwrap_or_else(binary)
    }

    /// The flags that make this node distinct from every other.
    pub fn flags(&self) -> Vec<String> {
        let path = |p: &str| self.dir.join(p).display().to_string();
        let mut flags = vec![
            format!("--pod-manifest-path={}", path("manifests")),
            format!("--config={}", path("config.yaml")),
            format!("--root-dir={}", path("root")),
            format!("--run-dir={}", path("run")),
            format!("--pod-logs-dir={}", path("logs/pods")),
            format!("--container-logs-dir={}", path("logs/containers")),
            format!("--cgroup-root=/{}", self.tag),
            format!("--bridge-name={}", self.tag),
            format!("--pod-cidr={}", self.pod_cidr()),
            format!("--hostname-override={}", self.tag),
            "--v=5".to_owned(),
        ];
        flags.extend(self.setup.flags.iter().cloned());
        flags
    }

    /// A /24 that no other node of a living test uses: kept in a file, since it must outlive the agent.
    fn pod_cidr(&self) -> String {
        let kept = self.dir.join("pod-cidr");
        fs::read_to_string(&kept).unwrap_or_else(|_| {
            let cidr = free_cidr(&self.tag);
            fs::write(&kept, &cidr).expect("a fresh file");
            cidr
        })
    }

    /// Starts the agent and waits until it answers.
    #[track_caller]
    pub fn start_agent(&mut self) {
        self.spawn_agent();
        self.wait_until_it_answers();
    }

    /// Starts the agent without waiting for anything.
    pub fn spawn_agent(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).expect("the agent's log");
        let mut command = match &self.setup.shell {
            None => Command::new(self.program()),
            Some(text) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", text, "sh"]).arg(self.program());
                shell
            }
        };
        command.args(self.flags()).envs(self.setup.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        // Of its own process group, as under an init: a ^C of the test run must not reach it before the clean-up.
        command.process_group(0);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let previous = self.agent.lock().expect("no panic while held").replace(child);
        assert!(previous.is_none(), "one agent at a time");
    }

    #[track_caller]
    pub fn wait_until_it_answers(&self) {
        wait_for("the agent answers on its socket", PATIENCE, || {
            if let Some(code) = self.agent_exit() {
                return Err(format!("the agent ended with {code}: {}", dump::tail(&self.agent_log(), 20)));
            }
            UnixStream::connect(self.run_dir().join("pinlet.sock")).map(drop).map_err(|e| e.to_string())
        });
    }

    pub fn agent_pid(&self) -> i32 {
        let agent = self.agent.lock().expect("no panic while held");
        agent.as_ref().expect("an agent that was started").id().cast_signed()
    }

    /// The exit code of an agent that has ended by itself.
    pub fn agent_exit(&self) -> Option<i32> {
        let mut agent = self.agent.lock().expect("no panic while held");
        agent.as_mut()?.try_wait().expect("our own child").map(verb::code)
    }

    /// Waits for the agent's end; its exit code.
    #[track_caller]
    pub fn reap_agent(&mut self) -> i32 {
        let mut child = self.agent.lock().expect("no panic while held").take().expect("an agent that was started");
        let status = verb::wait_child(&mut child, PATIENCE);
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the agent did not end within {PATIENCE:?}");
        }
        verb::code(status.expect("just seen"))
    }

    /// SIGTERM; its exit code.
    #[track_caller]
    pub fn stop_agent(&mut self) -> i32 {
        host::signal(self.agent_pid(), Signal::SIGTERM);
        self.reap_agent()
    }

    /// SIGKILL, as a crash would.
    #[track_caller]
    pub fn crash_agent(&mut self) {
        host::signal(self.agent_pid(), Signal::SIGKILL);
        self.reap_agent();
    }

    /// Puts a manifest in place by rename.
    pub fn put(&self, file: &str, text: impl AsRef<[u8]>) {
        let aside = self.dir.join("aside").join(file);
        fs::write(&aside, text).expect("room for a manifest");
        fs::rename(&aside, self.manifests().join(file)).expect("the same file system");
    }

    pub fn put_pod(&self, pod: &super::Pod) {
        let name = pod.0["metadata"]["name"].as_str().expect("a name");
        self.put(&format!("{name}.yaml"), pod.yaml());
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.manifests().join(file)).expect("a manifest that is there");
    }

    /// The program with a client verb, not yet run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        let (verb, rest) = arguments.split_first().expect("a verb");
        command.arg(verb).arg(format!("--run-dir={}", self.run_dir().display())).args(rest);
        command
    }

    /// Runs a client verb to its end.
    #[track_caller]
    pub fn verb(&self, arguments: &[&str]) -> Outcome {
        self.verb_with(arguments, b"")
    }

    #[track_caller]
    pub fn verb_with(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        verb::run(&mut self.command(arguments), input, VERB_LIMIT)
    }

    /// `get pods -o json`, its items.
    pub fn try_pods(&self) -> Result<Vec<PodView>, String> {
        let answer = verb::try_run(&mut self.command(&["get", "pods", "-o", "json"]), b"", VERB_LIMIT)
            .map_err(|partial| format!("get pods hangs: {partial:?}"))?;
        expect(answer.code == 0, || format!("{answer:?}"))?;
        let list: serde_json::Value =
            serde_json::from_str(&answer.stdout).map_err(|e| format!("{e} in {:?}", answer.stdout))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default().into_iter().map(PodView).collect())
    }

    #[track_caller]
    pub fn pods(&self) -> Vec<PodView> {
        self.try_pods().unwrap_or_else(|e| panic!("{e}"))
    }

    /// The pod with this manifest name in namespace default, if it is listed.
    pub fn try_pod(&self, name: &str) -> Result<PodView, String> {
        let full = self.full_name(name);
        let pods = self.try_pods()?;
        let found = pods.iter().find(|p| p.name() == full).cloned();
        found.ok_or_else(|| format!("no {full} among {:?}", pods.iter().map(PodView::name).collect::<Vec<_>>()))
    }

    #[track_caller]
    pub fn pod(&self, name: &str) -> PodView {
        self.try_pod(name).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Waits until `holds` says yes to the pod.
    #[track_caller]
    pub fn wait_pod(&self, name: &str, what: &str, holds: impl Fn(&PodView) -> bool) -> PodView {
        self.wait_pod_for(PATIENCE, name, what, holds)
    }

    #[track_caller]
    pub fn wait_pod_for(
        &self,
        patience: Duration,
        name: &str,
        what: &str,
        holds: impl Fn(&PodView) -> bool,
    ) -> PodView {
        wait_for(&format!("pod {name} {what}"), patience, || {
            let pod = self.try_pod(name)?;
            expect(holds(&pod), || format!("{:#}", pod.0["status"]))?;
            Ok(pod)
        })
    }

    /// Waits until all containers of the pod run and are ready.
    #[track_caller]
    pub fn wait_running(&self, name: &str) -> PodView {
        self.wait_pod(name, "runs", |pod| {
            pod.phase() == "Running" && pod.condition("Ready") == "True" && !pod.is_terminating()
        })
    }

    /// Waits until the pod is not listed any more.
    #[track_caller]
    pub fn wait_gone(&self, name: &str) {
        let full = self.full_name(name);
        wait_for(&format!("pod {full} is gone"), PATIENCE, || {
            let pods = self.try_pods()?;
            match pods.iter().find(|p| p.name() == full) {
                Some(pod) => Err(format!("{:#}", pod.0)),
                None => Ok(()),
            }
        });
    }

    /// The container's first process, in the host's numbers: found by its cgroup.
    #[track_caller]
    pub fn init_pid(&self, pod: &PodView, container: &str) -> i32 {
        let id = pod.container_id(container);
        assert_eq!(id.len(), 64, "a container id: {:#}", pod.0["status"]);
        let mut pids: Vec<i32> =
            host::cgroups(&self.tag).iter().filter(|c| c.ends_with(&id)).flat_map(|c| host::pids_of(c)).collect();
        pids.sort_unstable();
        pids.dedup();
        // The child of the monitor; what was exec'd later has a parent outside too. What has just died has no start
        // time any more.
        let from_outside = |pid: &&i32| host::parent(**pid).is_some_and(|parent| !pids.contains(&parent));
        let first = pids.iter().filter(from_outside).min_by_key(|pid| host::start_ticks(**pid).unwrap_or(u64::MAX));
        *first.unwrap_or_else(|| panic!("no process in the cgroups of {id}"))
    }

    /// Everything that `get pods` calls gone must be gone: kernel and disk. For a node without pods.
    #[track_caller]
    pub fn assert_no_pod_left(&self) {
        let left = dump::what_is_left(self);
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    /// Waits until the container's log says `text`.
    #[track_caller]
    pub fn wait_log(&self, pod: &str, text: &str) -> String {
        wait_for(&format!("{pod} says {text:?}"), PATIENCE, || {
            let out = self.verb(&["logs", pod]);
            expect(out.code == 0 && out.stdout.contains(text), || format!("{out:?}"))?;
            Ok(out.stdout)
        })
    }

    /// Runs a pod of `busybox:1` that ends by itself, to its end: what its container printed.
    #[track_caller]
    pub fn output_of(&self, pod: super::Pod) -> String {
        let name = pod.0["metadata"]["name"].as_str().expect("a name").to_owned();
        self.put_pod(&pod.restart("Never"));
        self.wait_pod(&name, "has ended", |p| matches!(p.phase().as_str(), "Succeeded" | "Failed"));
        self.verb(&["logs", &name]).ok().stdout
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", dump::state(self));
        }
        end_agent(&self.agent);
        let left = host::purge(&self.tag, &self.dir);
        if !left.is_empty() {
            eprintln!("could not take away: {left:#?}");
        }
    }
}

fn end_agent(agent: &Mutex<Option<Child>>) {
    let taken = agent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(mut child) = taken {
        if child.try_wait().is_ok_and(|s| s.is_none()) {
            host::signal(child.id().cast_signed(), Signal::SIGTERM);
        }
        if verb::wait_child(&mut child, Duration::from_secs(5)).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start_watchdog(tag: String, dir: PathBuf, agent: Arc<Mutex<Option<Child>>>, limit: Duration) -> mpsc::Sender<()> {
    let (alive, watch) = mpsc::channel();
    std::thread::spawn(move || {
        if watch.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("a test did not end within {limit:?}: taking its node {tag} away and giving up");
            end_agent(&agent);
            host::purge(&tag, &dir);
            std::process::abort();
        }
    });
    alive
}

/// A /24 of 10.128.0.0/9 that no route of this machine touches and no other node of a test has claimed.
fn free_cidr(tag: &str) -> String {
    let digest = super::image::sha256(tag.as_bytes());
    let seed = u32::from_str_radix(&digest[..6], 16).expect("hex digits");
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let taken: Vec<u32> = routes
        .lines()
        .filter_map(|l| l.split_whitespace().nth(1))
        .filter_map(|hex| u32::from_str_radix(hex, 16).ok())
        .map(|raw| u32::from_be(raw) >> 8)
        .collect();
    let claimed: Vec<String> = fs::read_dir(BASE)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| fs::read_to_string(e.path().join("pod-cidr")).ok())
        .collect();
    (0..1 << 15)
        .map(|step| (seed + step) % (1 << 15))
        .map(|n| (10 << 16) + (1 << 15) + n)
        .filter(|net| !taken.contains(net))
        .map(|net| format!("10.{}.{}.0/24", (net >> 8) & 0xff, net & 0xff))
        .find(|cidr| !claimed.contains(cidr))
        .expect("32768 networks")
}
