//! Tables: scans and answers in, pods and reports out, under a clock that the test moves.

use super::*;
use crate::manifest::decode;
use crate::model::time::Wall;

const DIR: &str = "/m";

struct Desk {
    table: Table,
    now: Mono,
    /// What the directory holds: bytes and a time stamp that grows with every write.
    files: BTreeMap<PathBuf, (Vec<u8>, i128)>,
    writes: i128,
    jobs: Vec<DecodeJob>,
}

fn manifest(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  - {{name: c, image: {image}}}\n"
    )
}

impl Desk {
    fn new() -> Desk {
        let node = NodeName::new("n1").expect("a name");
        Desk {
            table: Table::new(PathBuf::from(DIR), node, FieldValidation::Strict),
            now: Mono(1_000_000_000_000),
            files: BTreeMap::new(),
            writes: 0,
            jobs: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall: Wall(0) }
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    fn write(&mut self, name: &str, text: &str) {
        self.writes += 1;
        self.files.insert(Path::new(DIR).join(name), (text.as_bytes().to_vec(), self.writes));
    }

    fn remove(&mut self, name: &str) {
        self.files.remove(&Path::new(DIR).join(name));
    }

    fn identity(bytes: &[u8], stamp: i128) -> Identity {
        Identity { device: 1, inode: 1, size: bytes.len() as u64, modified_ns: stamp, changed_ns: stamp }
    }

    /// As `scan` would see the directory.
    fn listing(&self) -> BTreeMap<ManifestPath, Seen> {
        let request = self.table.scan_request(self.now);
        let look = |(path, (bytes, stamp)): (&PathBuf, &(Vec<u8>, i128))| {
            let identity = Desk::identity(bytes, *stamp);
            let seen = if request.known.get(path.as_os_str()) == Some(&Known::Taken(identity)) {
                Seen::Unchanged
            } else {
                Seen::Bytes { identity, bytes: bytes.clone(), young: false }
            };
            (ManifestPath::from(path.clone()), seen)
        };
        self.files.iter().map(look).collect()
    }

    fn scan_with(&mut self, name: &str, seen: Seen) {
        let mut listing = self.listing();
        listing.insert(Path::new(DIR).join(name).into(), seen);
        self.apply(Listing::Whole(listing));
    }

    fn apply(&mut self, listing: Listing) {
        let now = self.now();
        let jobs = self.table.apply_scan(ScanResult { listing, single_file: false }, now);
        self.jobs.extend(jobs);
    }

    fn scan(&mut self) {
        let listing = self.listing();
        self.apply(Listing::Whole(listing));
    }

    fn answer(&mut self, job: &DecodeJob, answer: Result<Decoded, DecodeFailure>) {
        let now = self.now();
        self.table.apply_decoded(&job.ticket, answer, now);
    }

    fn decode_one(&mut self, name: &str) {
        let index = self.jobs.iter().position(|job| job.request.path.ends_with(name)).expect("a job for it");
        let job = self.jobs.remove(index);
        self.answer(&job, Ok(decode::in_process(&job.request, &job.bytes)));
    }

    fn settle(&mut self) {
        self.scan();
        while let Some(job) = self.jobs.pop() {
            self.answer(&job, Ok(decode::in_process(&job.request, &job.bytes)));
        }
    }

    fn desired(&self) -> Vec<String> {
        let image =
            |pod: &Arc<StaticPod>| format!("{} {} {}", pod.source.display(), pod.key.name, pod.containers[0].image);
        self.table.desired().iter().map(image).collect()
    }

    fn state(&self, name: &str) -> (FileState, String) {
        let path = Path::new(DIR).join(name);
        let report = self.table.reports().into_iter().find(|report| report.path == path).expect("a known file");
        (report.state, report.problems.first().map(Problem::one_line).unwrap_or_default())
    }
}

#[test]
fn a_new_file_is_decoded_and_runs() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    assert!(!desk.table.is_settled());
    desk.scan();
    assert_eq!(desk.state("a.yaml"), (FileState::Unsettled, "being decoded".to_owned()));
    assert!(!desk.table.is_settled());
    desk.decode_one("a.yaml");
    assert!(desk.table.is_settled());
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:1"]);
    assert_eq!(desk.state("a.yaml"), (FileState::Accepted, String::new()));
    assert_eq!(desk.table.wake_at(), None);
    let uid = desk.table.desired()[0].uid.clone();
    assert_eq!(desk.table.bytes_of(&uid).as_deref(), Some(manifest("web", "x:1").as_bytes()));
    desk.scan();
    assert!(desk.jobs.is_empty(), "an unchanged file is not decoded again");
}

#[test]
fn an_edit_is_a_new_pod_and_a_rewrite_is_not() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.settle();
    let first = desk.table.desired();
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.scan();
    assert!(desk.jobs.is_empty(), "the same bytes are not decoded again");
    desk.write("a.yaml", &format!("# a comment\n{}", manifest("web", "x:1")));
    desk.settle();
    assert!(Arc::ptr_eq(&first[0], &desk.table.desired()[0]));
    desk.write("a.yaml", &manifest("web", "x:2"));
    desk.settle();
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:2"]);
    assert_ne!(first[0].uid, desk.table.desired()[0].uid);
}

#[test]
fn an_edit_under_a_given_uid_takes_its_place() {
    let mut desk = Desk::new();
    let given = |image| manifest("web", image).replace("name: web", "name: web\n  uid: fixed");
    desk.write("a.yaml", &given("x:1"));
    desk.settle();
    let first = desk.table.desired();
    desk.write("a.yaml", &given("x:2"));
    desk.settle();
    let second = desk.table.desired();
    assert_eq!(first[0].uid, second[0].uid);
    assert_ne!(first[0].hash, second[0].hash);
    assert_eq!(second[0].containers[0].image, "x:2");
}

#[test]
fn of_files_that_come_together_the_first_in_byte_order_wins_whoever_is_decoded_first() {
    let mut desk = Desk::new();
    desk.write("b.yaml", &manifest("web", "b:1"));
    desk.write("a.yaml", &manifest("web", "a:1"));
    desk.scan();
    desk.decode_one("b.yaml");
    assert_eq!(desk.desired(), [""; 0]);
    assert_eq!(desk.state("b.yaml").0, FileState::Unsettled);
    desk.decode_one("a.yaml");
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 a:1"]);
    let reason = "pod default/web-n1 belongs to /m/a.yaml, so /m/b.yaml cannot have it";
    assert_eq!(desk.state("b.yaml"), (FileState::Rejected, reason.to_owned()));
}

#[test]
fn a_file_that_takes_long_to_decode_keeps_the_others_waiting_for_a_second_only() {
    let mut desk = Desk::new();
    desk.write("a.yaml", "slow");
    desk.write("b.yaml", &manifest("web", "b:1"));
    desk.scan();
    desk.decode_one("b.yaml");
    assert_eq!(desk.table.wake_at(), Some(desk.now + TOGETHER_MAX));
    desk.pass(1000);
    desk.scan();
    assert_eq!(desk.desired(), ["/m/b.yaml web-n1 b:1"]);
    assert_eq!(desk.table.wake_at(), None);
}

#[test]
fn who_owns_a_name_keeps_it_and_the_next_gets_it_when_the_owner_goes() {
    let mut desk = Desk::new();
    desk.write("z.yaml", &manifest("web", "z:1"));
    desk.settle();
    desk.write("a.yaml", &manifest("web", "a:1"));
    desk.settle();
    assert_eq!(desk.desired(), ["/m/z.yaml web-n1 z:1"]);
    assert_eq!(desk.state("a.yaml").0, FileState::Rejected);
    desk.remove("z.yaml");
    desk.scan();
    assert_eq!(desk.state("a.yaml").0, FileState::Unsettled, "the owner may come back");
    assert_eq!(desk.table.wake_at(), Some(desk.now + DELETION_QUIET));
    desk.pass(250);
    desk.scan();
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 a:1"]);
    assert_eq!(desk.state("a.yaml").0, FileState::Accepted);
}

#[test]
fn a_uid_belongs_to_one_file_too() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("one", "a:1").replace("name: one", "name: one\n  uid: u1"));
    desk.write("b.yaml", &manifest("two", "b:1").replace("name: two", "name: two\n  uid: u1"));
    desk.settle();
    assert_eq!(desk.desired(), ["/m/a.yaml one-n1 a:1"]);
    let reason = "uid u1 belongs to /m/a.yaml, so /m/b.yaml cannot have it";
    assert_eq!(desk.state("b.yaml"), (FileState::Rejected, reason.to_owned()));
}

#[test]
fn a_bad_version_changes_nothing_but_the_report() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.settle();
    desk.write("a.yaml", "kind: [");
    desk.settle();
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:1"]);
    let report = &desk.table.reports()[0];
    assert!(report.last_good_runs && report.state == FileState::Rejected, "{report:?}");
    assert_eq!(report.pod.as_ref().map(ToString::to_string).as_deref(), Some("default/web-n1"));
    desk.write("a.yaml", &manifest("web", "x:2"));
    desk.settle();
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:2"]);
}

#[test]
fn a_version_that_wants_another_ones_name_leaves_the_last_good_one_running() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("one", "a:1"));
    desk.write("b.yaml", &manifest("two", "b:1"));
    desk.settle();
    desk.write("a.yaml", &manifest("two", "a:2"));
    desk.settle();
    assert_eq!(desk.desired(), ["/m/a.yaml one-n1 a:1", "/m/b.yaml two-n1 b:1"]);
    assert_eq!(desk.state("a.yaml").0, FileState::Rejected);
    desk.remove("b.yaml");
    desk.scan();
    desk.pass(250);
    desk.scan();
    assert_eq!(desk.desired(), ["/m/a.yaml two-n1 a:2"]);
}

#[test]
fn two_files_may_exchange_their_names() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("one", "a:1"));
    desk.write("b.yaml", &manifest("two", "b:1"));
    desk.settle();
    desk.write("a.yaml", &manifest("two", "a:1"));
    desk.write("b.yaml", &manifest("one", "b:1"));
    desk.settle();
    assert_eq!(desk.desired(), ["/m/a.yaml two-n1 a:1", "/m/b.yaml one-n1 b:1"]);
}

#[test]
fn a_file_is_gone_when_it_is_absent_from_two_scans_a_quarter_second_apart() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.settle();
    desk.remove("a.yaml");
    desk.scan();
    assert_eq!(desk.desired().len(), 1);
    assert_eq!(desk.table.wake_at(), Some(desk.now + DELETION_QUIET));
    desk.pass(249);
    desk.scan();
    assert_eq!(desk.desired().len(), 1);
    desk.pass(1);
    desk.scan();
    assert_eq!(desk.desired().len(), 0);
    assert_eq!(desk.table.wake_at(), None);
    assert!(desk.table.reports().is_empty());
}

#[test]
fn a_file_that_comes_back_in_time_was_never_away() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.settle();
    desk.remove("a.yaml");
    desk.scan();
    desk.pass(200);
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.settle();
    desk.pass(200);
    desk.settle();
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:1"]);
    assert_eq!(desk.table.wake_at(), None);
}

#[test]
fn a_renamed_file_is_another_pod_that_follows_the_first() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.settle();
    desk.remove("a.yaml");
    desk.write("b.yaml", &manifest("web", "x:1"));
    desk.settle();
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:1"]);
    assert_eq!(desk.state("b.yaml").0, FileState::Unsettled);
    desk.pass(250);
    desk.scan();
    assert_eq!(desk.desired(), ["/m/b.yaml web-n1 x:1"]);
}

#[test]
fn a_vanished_directory_stops_nothing() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.write("bad.yaml", "[");
    desk.settle();
    desk.remove("a.yaml");
    desk.scan();
    for _ in 0..3 {
        desk.pass(10_000);
        desk.apply(Listing::Missing("does not exist".to_owned()));
        assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:1"]);
        assert_eq!(desk.state("a.yaml"), (FileState::Rejected, "the directory /m does not exist".to_owned()));
        assert_eq!(desk.table.wake_at(), None);
    }
    assert_eq!(desk.table.reports().len(), 1, "a file without a pod went with its directory");
    assert_eq!(desk.table.missing(), Some("does not exist"));
    // It comes back without the file: only now the deletion counts, and again after its time.
    desk.scan();
    assert_eq!(desk.desired().len(), 1);
    desk.pass(250);
    desk.scan();
    assert_eq!(desk.desired().len(), 0);
}

#[test]
fn kept_pods_own_their_names_and_run_before_the_first_scan() {
    let mut before = Desk::new();
    before.write("z.yaml", &manifest("web", "z:1"));
    before.settle();
    let kept: Vec<Kept> = before.table.files.values().filter_map(|file| file.active.clone()).collect();

    let mut desk = Desk::new();
    let now = desk.now();
    desk.table.restore(kept, now);
    assert_eq!(desk.desired(), ["/m/z.yaml web-n1 z:1"]);
    assert!(!desk.table.is_settled());
    desk.write("z.yaml", &manifest("web", "z:1"));
    desk.write("a.yaml", &manifest("web", "a:1"));
    desk.settle();
    assert_eq!(desk.desired(), ["/m/z.yaml web-n1 z:1"]);
    assert_eq!(desk.state("a.yaml").0, FileState::Rejected);
    assert_eq!(desk.state("z.yaml").0, FileState::Accepted);
}

#[test]
fn a_kept_pod_whose_file_is_bad_or_gone_after_the_restart_is_treated_as_ever() {
    let mut before = Desk::new();
    before.write("a.yaml", &manifest("one", "x:1"));
    before.write("b.yaml", &manifest("two", "x:1"));
    before.settle();
    let kept: Vec<Kept> = before.table.files.values().filter_map(|file| file.active.clone()).collect();

    let mut desk = Desk::new();
    let now = desk.now();
    desk.table.restore(kept, now);
    desk.write("a.yaml", "[");
    desk.settle();
    assert_eq!(desk.desired().len(), 2);
    desk.pass(250);
    desk.scan();
    assert_eq!(desk.desired(), ["/m/a.yaml one-n1 x:1"]);
    assert_eq!(desk.state("a.yaml").0, FileState::Rejected);
}

#[test]
fn a_death_by_limits_is_a_verdict() {
    let mut desk = Desk::new();
    desk.write("a.yaml", "bytes");
    desk.scan();
    let job = desk.jobs.remove(0);
    desk.answer(&job, Err(DecodeFailure::ByLimits("memory".to_owned())));
    assert_eq!(desk.state("a.yaml"), (FileState::Rejected, "cannot be decoded: memory".to_owned()));
    assert_eq!(desk.table.wake_at(), None);
}

#[test]
fn a_decoder_that_fails_is_tried_again_ever_later() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    for seconds in [10, 20, 40, 80, 160, 300, 300] {
        desk.scan();
        let job = desk.jobs.remove(0);
        desk.answer(&job, Err(DecodeFailure::Transient("no memory".to_owned())));
        assert_eq!(desk.table.wake_at(), Some(desk.now + Duration::from_secs(seconds)));
        assert_eq!(desk.state("a.yaml").0, FileState::Unsettled);
        desk.scan();
        assert!(desk.jobs.is_empty(), "not before its time");
        desk.pass(seconds * 1000);
    }
    desk.settle();
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:1"]);
    assert_eq!(desk.table.wake_at(), None);
}

#[test]
fn a_file_that_is_written_is_left_alone() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.settle();
    for millis in [250, 500, 1000, 2000] {
        desk.scan_with("a.yaml", Seen::Written);
        assert_eq!(desk.table.wake_at(), Some(desk.now + Duration::from_millis(millis)));
        assert_eq!(desk.state("a.yaml"), (FileState::Unsettled, "somebody holds it open for writing".to_owned()));
        assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:1"]);
        desk.pass(millis);
    }
    desk.write("a.yaml", &manifest("web", "x:2"));
    desk.settle();
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:2"]);
    assert_eq!(desk.table.wake_at(), None);
    desk.scan_with("a.yaml", Seen::Written);
    assert_eq!(desk.table.wake_at(), Some(desk.now + WRITTEN_FIRST), "a new writer is a new wait");
}

#[test]
fn where_nobody_knows_the_writers_a_second_of_quiet_decides() {
    let mut desk = Desk::new();
    let identity = Desk::identity(b"x", 1);
    let path = Path::new(DIR).join("a.yaml");
    desk.scan_with("a.yaml", Seen::Watched(identity));
    let since = desk.now;
    assert_eq!(desk.table.wake_at(), Some(since + QUIET));
    desk.pass(400);
    desk.scan_with("a.yaml", Seen::Watched(identity));
    assert_eq!(desk.table.wake_at(), Some(since + QUIET), "the wait goes on");
    desk.pass(600);
    assert_eq!(
        desk.table.scan_request(desk.now).known.get(path.as_os_str()),
        Some(&Known::Watched { identity, since })
    );
    desk.scan_with("a.yaml", Seen::Watched(Desk::identity(b"xy", 2)));
    assert_eq!(desk.table.wake_at(), Some(desk.now + QUIET), "it changed: the wait begins anew");
}

#[test]
fn a_young_file_is_read_once_more_and_not_decoded_again() {
    let mut desk = Desk::new();
    let text = manifest("web", "x:1");
    let bytes =
        |young| Seen::Bytes { identity: Desk::identity(text.as_bytes(), 1), bytes: text.clone().into_bytes(), young };
    desk.scan_with("a.yaml", bytes(true));
    desk.decode_one("a.yaml");
    assert_eq!(desk.table.wake_at(), Some(desk.now + YOUNG));
    desk.pass(50);
    assert!(desk.table.scan_request(desk.now).known.is_empty(), "nothing is taken for granted");
    desk.scan_with("a.yaml", bytes(false));
    assert!(desk.jobs.is_empty());
    assert_eq!(desk.table.wake_at(), None);
    assert_eq!(desk.desired().len(), 1);
}

#[test]
fn an_answer_about_bytes_that_are_no_more_is_dropped() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.scan();
    desk.write("a.yaml", &manifest("web", "x:2"));
    desk.scan();
    let (old, new) = (desk.jobs.remove(0), desk.jobs.remove(0));
    desk.answer(&new, Ok(decode::in_process(&new.request, &new.bytes)));
    desk.answer(&old, Ok(decode::in_process(&old.request, &old.bytes)));
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:2"]);
}

#[test]
fn what_does_not_count_and_what_cannot_be_read_is_told() {
    let mut desk = Desk::new();
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.settle();
    desk.scan_with("b.bak", Seen::Ignored("a backup or an unfinished copy"));
    desk.scan_with("a.yaml", Seen::Unreadable("cannot be read: permission denied".to_owned()));
    assert_eq!(desk.state("a.yaml"), (FileState::Rejected, "cannot be read: permission denied".to_owned()));
    assert_eq!(desk.desired(), ["/m/a.yaml web-n1 x:1"], "the last good version goes on");
    desk.settle();
    assert_eq!(desk.state("a.yaml").0, FileState::Accepted);
}

#[test]
fn every_change_is_told_once() {
    let mut desk = Desk::new();
    let told = |desk: &mut Desk| -> Vec<_> {
        let changes = desk.table.take_changes();
        changes.into_iter().map(|r| (r.path.file_name().unwrap_or_default().to_owned(), r.state)).collect()
    };
    desk.write("a.yaml", &manifest("web", "x:1"));
    desk.write("b.yaml", "[");
    desk.scan();
    assert!(told(&mut desk).is_empty(), "being decoded is no news");
    desk.decode_one("a.yaml");
    desk.decode_one("b.yaml");
    assert_eq!(told(&mut desk), [("a.yaml".into(), FileState::Accepted), ("b.yaml".into(), FileState::Rejected)]);
    desk.settle();
    assert!(told(&mut desk).is_empty());
    desk.write("b.yaml", &manifest("other", "x:1"));
    desk.settle();
    assert_eq!(told(&mut desk), [("b.yaml".into(), FileState::Accepted)]);
}

#[test]
fn a_pod_of_an_earlier_run_is_told_when_its_file_is_seen_and_without_one_not_at_all() {
    let mut before = Desk::new();
    before.write("gone.yaml", &manifest("gone", "x:1"));
    before.write("there.yaml", &manifest("there", "x:1"));
    before.settle();
    let kept: Vec<Kept> = before.table.files.into_values().filter_map(|file| file.active).collect();
    let mut desk = Desk::new();
    let now = desk.now();
    desk.table.restore(kept, now);
    desk.write("there.yaml", &manifest("there", "x:1"));
    let mut told = Vec::new();
    desk.scan();
    told.extend(desk.table.take_changes());
    desk.decode_one("there.yaml");
    told.extend(desk.table.take_changes());
    desk.pass(300);
    desk.settle();
    told.extend(desk.table.take_changes());
    let told: Vec<_> = told.into_iter().map(|r| (r.path.display().to_string(), r.state)).collect();
    assert_eq!(told, [("/m/there.yaml".to_owned(), FileState::Accepted)]);
    assert_eq!(desk.desired(), ["/m/there.yaml there-n1 x:1"]);
}

#[test]
fn a_single_file_is_a_directory_of_one() {
    let node = NodeName::new("n1").expect("a name");
    let path = PathBuf::from("/m/pod.yaml");
    let mut table = Table::new(path.clone(), node, FieldValidation::Strict);
    let now = Now { mono: Mono(1_000_000_000), wall: Wall(0) };
    let bytes = manifest("web", "x:1").into_bytes();
    let seen = Seen::Bytes { identity: Desk::identity(&bytes, 1), bytes, young: false };
    let listing = Listing::Whole(BTreeMap::from([(path.into(), seen)]));
    let jobs = table.apply_scan(ScanResult { listing, single_file: true }, now);
    table.apply_decoded(&jobs[0].ticket, Ok(decode::in_process(&jobs[0].request, &jobs[0].bytes)), now);
    assert_eq!(table.desired().len(), 1);
    assert!(table.scan_request(now.mono).single_file, "its absence is a deletion from now on");
}
