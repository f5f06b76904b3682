//! The machine against a server of a few lines: what is asked, when, and what becomes of answers of every kind.

use super::super::conditions::Readiness;
use super::super::facts::{NodeFacts, NodeImage};
use super::super::lease;
use super::super::request::{NodeAnswer, NodeNews, NodePlan, NodeRequest, NodeRequestKind as Kind};
use super::super::tests::fixture::{UID, facts, registered};
use super::{NodeSettings, NodeSync};
use crate::model::time::{Mono, Now, Wall};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

struct Bench {
    sync: NodeSync,
    facts: NodeFacts,
    now: Now,
}

fn settings(register: bool) -> NodeSettings {
    NodeSettings {
        name: facts().name,
        register,
        lease_duration: Duration::from_secs(40),
        update_every: Duration::from_secs(10),
        report_every: Duration::from_secs(300),
        max_images: Some(50),
    }
}

fn unavailable() -> NodeAnswer {
    NodeAnswer::Unavailable { message: "connection refused".to_owned(), retry_after: None }
}

fn refused() -> NodeAnswer {
    NodeAnswer::Refused { message: "is forbidden".to_owned() }
}

impl Bench {
    fn new(register: bool) -> Bench {
        let start = 1000 * SECOND;
        let now = Now { mono: Mono(start), wall: Wall(1_795_475_131 * SECOND as i64) };
        Bench { sync: NodeSync::new(settings(register)), facts: facts(), now }
    }

    /// A node that is registered, reported and leased.
    fn settled() -> Bench {
        let mut bench = Bench::new(true);
        bench.serve(Kind::GetNode, NodeAnswer::Missing);
        bench.serve(Kind::CreateNode, bench.node(UID));
        bench.serve(Kind::GetLease, NodeAnswer::Missing);
        bench.serve(Kind::CreateLease, bench.lease(UID));
        assert_eq!(bench.plan().requests, []);
        bench.sync.take_news();
        bench
    }

    fn node(&self, uid: &str) -> NodeAnswer {
        let mut node = registered(&self.facts);
        node.metadata.uid = Some(uid.to_owned());
        NodeAnswer::Node(Box::new(node))
    }

    fn lease(&self, uid: &str) -> NodeAnswer {
        NodeAnswer::Lease(Box::new(lease::new(&self.facts.name, uid, Duration::from_secs(40), self.now.wall)))
    }

    fn plan(&mut self) -> NodePlan {
        self.sync.plan(&self.facts, self.now)
    }

    /// The requests that are due, by kind.
    fn due(&mut self) -> Vec<Kind> {
        self.plan().requests.iter().map(NodeRequest::kind).collect()
    }

    fn answer(&mut self, kind: Kind, answer: NodeAnswer) {
        self.sync.answer(kind, answer, self.now.mono);
    }

    /// The one request that is due is of that kind, and this is the answer.
    #[track_caller]
    fn serve(&mut self, kind: Kind, answer: NodeAnswer) -> NodeRequest {
        let mut requests = self.plan().requests;
        assert_eq!(requests.iter().map(NodeRequest::kind).collect::<Vec<_>>(), [kind]);
        self.answer(kind, answer);
        requests.remove(0)
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.now.wall.0 += i64::try_from(time.as_nanos()).expect("short");
    }

    /// Goes on until `kind` is due, answering each renewal; says how long that took.
    #[track_caller]
    fn wait_for(&mut self, kind: Kind) -> Duration {
        let start = self.now.mono;
        loop {
            let plan = self.plan();
            for request in plan.requests {
                if request.kind() == kind {
                    return self.now.mono.since(start);
                }
                assert_eq!(request.kind(), Kind::UpdateLease, "beside {kind:?}");
                let lease = self.lease(self.sync.uid().expect("a uid"));
                self.answer(Kind::UpdateLease, lease);
            }
            let next = self.plan().wake_at.expect("an instant to wake at");
            self.pass(next.since(self.now.mono));
        }
    }
}

#[test]
fn a_new_node_is_looked_for_created_and_leased() {
    let mut bench = Bench::new(true);
    bench.serve(Kind::GetNode, NodeAnswer::Missing);
    assert_eq!(bench.sync.uid(), None);
    let NodeRequest::CreateNode(node) = bench.serve(Kind::CreateNode, bench.node(UID)) else { panic!("a creation") };
    assert_eq!(node.spec.and_then(|spec| spec.taints).map(|taints| taints.len()), Some(1));
    assert_eq!(bench.sync.uid(), Some(UID));
    bench.serve(Kind::GetLease, NodeAnswer::Missing);
    let NodeRequest::CreateLease(lease) = bench.serve(Kind::CreateLease, bench.lease(UID)) else { panic!("a lease") };
    assert_eq!(lease.metadata.owner_references.map(|owners| owners[0].uid.clone()).as_deref(), Some(UID));
    let plan = bench.plan();
    assert_eq!((plan.requests.len(), plan.wake_at), (0, Some(bench.now.mono + Duration::from_secs(10))));
    let news = bench.sync.take_news();
    let told = |reason| news.contains(&NodeNews::Condition { reason });
    assert!(told("NodeHasSufficientMemory") && told("NodeHasNoDiskPressure") && told("NodeHasSufficientPID"));
    assert!(told("NodeReady") && news.contains(&NodeNews::There { uid: UID.to_owned(), created: true }));
    assert_eq!((news.len(), bench.sync.lacks_taint()), (5, None));
}

#[test]
fn planning_twice_asks_once() {
    let mut bench = Bench::new(true);
    assert_eq!(bench.due(), [Kind::GetNode]);
    assert_eq!(bench.plan(), NodePlan::default());
    bench.answer(Kind::PatchNode, bench.node(UID));
    assert_eq!(bench.sync.uid(), None, "an answer to what was not asked");
    bench.answer(Kind::GetNode, bench.node(UID));
    assert_eq!(bench.due(), [Kind::GetLease, Kind::PatchNodeStatus], "the lease comes first");
    assert_eq!(bench.plan(), NodePlan::default());
}

#[test]
fn a_node_that_is_there_gets_labels_and_a_status_and_its_missing_taint_is_told() {
    let mut bench = Bench::new(true);
    let mut old = registered(&bench.facts);
    old.metadata.labels = None;
    old.spec = None;
    bench.serve(Kind::GetNode, NodeAnswer::Node(Box::new(old)));
    assert_eq!(bench.due(), [Kind::GetLease, Kind::PatchNode]);
    bench.answer(Kind::PatchNode, bench.node(UID));
    bench.serve(Kind::PatchNodeStatus, bench.node(UID));
    let command = "kubectl taint nodes vm pinlet.dev/static-pods-only:NoSchedule".to_owned();
    assert!(bench.sync.take_news().contains(&NodeNews::LacksTaint { command }));
    assert_eq!(bench.due(), []);
}

#[test]
fn the_lease_is_renewed_every_quarter_of_its_duration() {
    let mut bench = Bench::settled();
    for _ in 0..3 {
        bench.pass(Duration::from_millis(9_999));
        assert_eq!(bench.due(), []);
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.due(), [Kind::UpdateLease]);
        bench.pass(Duration::from_millis(300));
        bench.answer(Kind::UpdateLease, bench.lease(UID));
        let wake_at = bench.plan().wake_at.expect("an instant");
        assert_eq!(wake_at.since(bench.now.mono), Duration::from_millis(9_700), "a slow answer shifts nothing");
        bench.pass(Duration::from_millis(9_700));
        bench.serve(Kind::UpdateLease, bench.lease(UID));
    }
}

#[test]
fn an_hour_costs_360_renewals_and_a_dozen_reports() {
    let mut bench = Bench::settled();
    let (end, mut renewals, mut reports) = (bench.now.mono + Duration::from_secs(3600), 0, 0);
    while bench.now.mono < end {
        for kind in bench.due() {
            let answer = if kind.is_lease() { bench.lease(UID) } else { bench.node(UID) };
            match kind {
                Kind::UpdateLease => renewals += 1,
                Kind::PatchNodeStatus => reports += 1,
                other => panic!("{other:?}"),
            }
            bench.answer(kind, answer);
        }
        let next = bench.plan().wake_at.expect("an instant");
        bench.pass(next.since(bench.now.mono));
    }
    assert!((359..=360).contains(&renewals) && (12..=13).contains(&reports), "{renewals} {reports}");
}

#[test]
fn urgent_changes_go_within_a_second_and_others_are_collected() {
    let mut bench = Bench::settled();
    bench.pass(Duration::from_secs(30));
    bench.serve(Kind::UpdateLease, bench.lease(UID));
    bench.facts.images.push(NodeImage { names: vec!["a:1".into()], size_bytes: 5 });
    let patch = bench.serve(Kind::PatchNodeStatus, bench.node(UID));
    assert!(matches!(patch, NodeRequest::PatchNodeStatus(patch) if patch["status"]["images"].is_array()));
    bench.facts.images.clear();
    assert_eq!(bench.wait_for(Kind::PatchNodeStatus), Duration::from_secs(10));
    bench.answer(Kind::PatchNodeStatus, bench.node(UID));
    bench.facts.readiness = Readiness::NotReady { message: "no disk".into() };
    assert_eq!(bench.wait_for(Kind::PatchNodeStatus), Duration::from_secs(1));
    bench.answer(Kind::PatchNodeStatus, bench.node(UID));
    assert_eq!(bench.sync.take_news(), [NodeNews::Condition { reason: "NodeNotReady" }]);
}

#[test]
fn without_an_answer_registration_is_tried_again_up_to_every_seven_seconds() {
    let mut bench = Bench::new(true);
    let mut waits = Vec::new();
    for _ in 0..9 {
        assert_eq!(bench.due(), [Kind::GetNode]);
        bench.answer(Kind::GetNode, unavailable());
        let next = bench.plan().wake_at.expect("an instant");
        waits.push(next.since(bench.now.mono).as_millis());
        bench.pass(next.since(bench.now.mono));
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 7000, 7000]);
    assert_eq!(bench.sync.problems().collect::<Vec<_>>(), ["connection refused"]);
    bench.serve(Kind::GetNode, bench.node(UID));
    assert_eq!(bench.sync.problems().count(), 0);
}

#[test]
fn a_creation_that_somebody_else_won_is_looked_at() {
    let mut bench = Bench::new(true);
    bench.serve(Kind::GetNode, NodeAnswer::Missing);
    bench.serve(Kind::CreateNode, NodeAnswer::Conflict);
    assert_eq!(bench.wait_for(Kind::GetNode), Duration::from_millis(100));
    bench.answer(Kind::GetNode, bench.node("of-another"));
    assert_eq!(bench.sync.uid(), Some("of-another"));
}

#[test]
fn a_deleted_node_is_back_within_ten_seconds_and_slower_each_time() {
    let mut bench = Bench::settled();
    let mut waits = Vec::new();
    for life in 0..11 {
        bench.pass(Duration::from_secs(2));
        bench.sync.look_again(bench.now.mono);
        bench.wait_for(Kind::GetNode);
        bench.answer(Kind::GetNode, NodeAnswer::Missing);
        assert_eq!(bench.sync.take_news(), [NodeNews::Deleted]);
        assert_eq!(bench.sync.uid(), None);
        waits.push(bench.wait_for(Kind::CreateNode).as_secs());
        let uid = format!("life-{life}");
        bench.answer(Kind::CreateNode, bench.node(&uid));
        assert_eq!(bench.sync.uid(), Some(uid.as_str()));
        let NodeRequest::UpdateLease(lease) = bench.serve(Kind::UpdateLease, bench.lease(&uid)) else { panic!() };
        assert_eq!(lease.metadata.owner_references.expect("an owner")[0].uid, uid, "at once, with the new owner");
        bench.sync.take_news();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    // It lives, and is deleted much later: that is another matter.
    for _ in 0..3 {
        bench.wait_for(Kind::PatchNodeStatus);
        bench.answer(Kind::PatchNodeStatus, bench.node("life-10"));
    }
    bench.wait_for(Kind::PatchNodeStatus);
    bench.answer(Kind::PatchNodeStatus, NodeAnswer::Missing);
    assert_eq!(bench.wait_for(Kind::CreateNode), Duration::from_secs(1));
}

#[test]
fn a_lease_that_vanished_with_its_node_leads_to_a_new_node() {
    let mut bench = Bench::settled();
    bench.pass(Duration::from_secs(10));
    bench.serve(Kind::UpdateLease, NodeAnswer::Missing);
    assert_eq!(bench.due(), [Kind::CreateLease, Kind::GetNode]);
    bench.answer(Kind::GetNode, NodeAnswer::Missing);
    bench.answer(Kind::CreateLease, bench.lease(UID));
    assert!(bench.wait_for(Kind::CreateNode) < Duration::from_secs(2));
}

#[test]
fn a_node_that_others_register_is_waited_for_and_never_created() {
    let mut bench = Bench::new(false);
    for _ in 0..5 {
        bench.serve(Kind::GetNode, NodeAnswer::Missing);
        assert_eq!(bench.wait_for(Kind::GetNode), Duration::from_secs(10));
        bench.answer(Kind::GetNode, NodeAnswer::Missing);
        bench.pass(Duration::from_secs(10));
    }
    bench.serve(Kind::GetNode, bench.node(UID));
    assert_eq!(bench.due(), [Kind::GetLease, Kind::PatchNodeStatus]);
    bench.answer(Kind::PatchNodeStatus, NodeAnswer::Missing);
    bench.answer(Kind::GetLease, NodeAnswer::Missing);
    assert_eq!(bench.wait_for(Kind::GetNode), Duration::from_secs(10));
}

#[test]
fn after_an_outage_the_node_is_looked_at_for_what_controllers_wrote() {
    let mut bench = Bench::settled();
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.due(), [Kind::UpdateLease]);
    bench.pass(Duration::from_secs(35));
    bench.answer(Kind::UpdateLease, unavailable());
    bench.pass(Duration::from_secs(1));
    bench.serve(Kind::UpdateLease, bench.lease(UID));
    let mut unknown = registered(&bench.facts);
    let conditions = unknown.status.as_mut().and_then(|status| status.conditions.as_mut()).expect("conditions");
    conditions[3].status = "Unknown".to_owned();
    bench.serve(Kind::GetNode, NodeAnswer::Node(Box::new(unknown)));
    bench.serve(Kind::PatchNodeStatus, bench.node(UID));
    assert_eq!(bench.due(), []);
}

#[test]
fn what_is_refused_is_tried_again_slowly_and_holds_up_nothing_else() {
    let mut bench = Bench::new(true);
    let mut old = registered(&bench.facts);
    old.metadata.labels = None;
    let old = || NodeAnswer::Node(Box::new(Node::clone(&old)));
    bench.serve(Kind::GetNode, old());
    assert_eq!(bench.due(), [Kind::GetLease, Kind::PatchNode]);
    bench.answer(Kind::GetLease, NodeAnswer::Missing);
    bench.answer(Kind::PatchNode, refused());
    assert_eq!(bench.due(), [Kind::CreateLease, Kind::PatchNodeStatus]);
    bench.answer(Kind::CreateLease, bench.lease(UID));
    bench.answer(Kind::PatchNodeStatus, old());
    assert_eq!(bench.sync.problems().collect::<Vec<_>>(), ["is forbidden"]);
    assert_eq!(bench.wait_for(Kind::PatchNode), Duration::from_secs(10));
    bench.answer(Kind::PatchNode, refused());
    assert_eq!(bench.wait_for(Kind::PatchNode), Duration::from_secs(20));
    bench.answer(Kind::PatchNode, bench.node(UID));
    assert_eq!(bench.sync.problems().count(), 0);
}

#[test]
fn a_report_that_did_not_arrive_is_repeated() {
    let mut bench = Bench::settled();
    bench.facts.readiness = Readiness::NotReady { message: "no disk".into() };
    bench.wait_for(Kind::PatchNodeStatus);
    bench.answer(Kind::PatchNodeStatus, unavailable());
    assert_eq!(bench.wait_for(Kind::PatchNodeStatus), Duration::from_millis(100));
    bench.answer(Kind::PatchNodeStatus, NodeAnswer::Conflict);
    bench.wait_for(Kind::GetNode);
    bench.answer(Kind::GetNode, bench.node("of-another"));
    assert_eq!(bench.sync.uid(), Some("of-another"));
    assert!(bench.due().contains(&Kind::PatchNodeStatus));
}

#[test]
fn a_lease_that_somebody_else_wrote_is_read_and_renewed_at_once() {
    let mut bench = Bench::settled();
    bench.pass(Duration::from_secs(10));
    bench.serve(Kind::UpdateLease, NodeAnswer::Conflict);
    assert_eq!(bench.wait_for(Kind::GetLease), Duration::from_millis(200));
    let mut theirs = Lease::default();
    theirs.metadata.resource_version = Some("9".to_owned());
    bench.answer(Kind::GetLease, NodeAnswer::Lease(Box::new(theirs)));
    let NodeRequest::UpdateLease(lease) = bench.serve(Kind::UpdateLease, bench.lease(UID)) else { panic!() };
    assert_eq!(lease.metadata.resource_version.as_deref(), Some("9"));
}
