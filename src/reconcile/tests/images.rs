//! Missing images, and imports that cure them.

use super::fixture::{Bench, base_pod, name};
use crate::model::observed::ImageProblem;
use crate::model::pod::StaticPod;
use crate::reconcile::event::Event;
use std::time::Duration;

fn missing(bench: &mut Bench, pod: &StaticPod, problem: &ImageProblem) -> Vec<String> {
    let event = Event::ImageMissing { uid: pod.uid.clone(), container: name("c"), problem: problem.clone() };
    bench.after(event)
}

fn not_there() -> ImageProblem {
    ImageProblem::ErrImagePull { message: "registries come later".to_owned() }
}

#[test]
fn a_missing_image_is_asked_for_after_10_20_40_seconds_and_so_on_up_to_300() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    bench.make_sandbox(&pod);
    for wait in [10, 20, 40, 80, 160, 300, 300] {
        missing(&mut bench, &pod, &not_there());
        assert_eq!(bench.wake_in, Some(Duration::from_secs(wait)));
        bench.pass_seconds(wait);
        assert_eq!(bench.plan(), ["ResolveImage c"]);
    }
}

#[test]
fn a_missing_image_shows_err_image_pull_and_then_image_pull_back_off() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    bench.make_sandbox(&pod);
    missing(&mut bench, &pod, &not_there());
    let shown = |bench: &Bench| {
        let waiting = bench.container_status(&pod, "c").state.and_then(|s| s.waiting).expect("waiting");
        (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
    };
    assert_eq!(shown(&bench), ("ErrImagePull".to_owned(), "registries come later".to_owned()));
    bench.pass_seconds(6);
    let text = "Back-off pulling image \"localhost/busybox:1\": ErrImagePull: registries come later";
    assert_eq!(shown(&bench), ("ImagePullBackOff".to_owned(), text.to_owned()));
    assert_eq!(bench.phase(&pod), "Pending");
    bench.pass_seconds(4);
    bench.plan();
    assert_eq!(shown(&bench).0, "ImagePullBackOff", "while it asks again");
    bench.found(&pod, "c");
    assert_eq!(bench.container_state(&pod, "c"), "Waiting ContainerCreating");
}

#[test]
fn a_policy_of_never_and_a_bad_name_keep_their_own_reason() {
    let problems = [
        (ImageProblem::ErrImageNeverPull { message: "m".to_owned() }, "Waiting ErrImageNeverPull"),
        (ImageProblem::InvalidImageName { message: "m".to_owned() }, "Waiting InvalidImageName"),
    ];
    for (problem, shown) in problems {
        let mut bench = Bench::new();
        let pod = base_pod();
        bench.desire(&[&pod]);
        missing(&mut bench, &pod, &problem);
        bench.pass_seconds(9);
        assert_eq!(bench.container_state(&pod, "c"), shown);
    }
}

#[test]
fn new_images_in_the_store_are_looked_at_at_once() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    bench.make_sandbox(&pod);
    missing(&mut bench, &pod, &not_there());
    assert_eq!(bench.after(Event::ImagesChanged), ["ResolveImage c"]);
    assert_eq!(bench.found(&pod, "c"), ["Start c 0"]);
}

#[test]
fn images_that_come_in_while_the_store_is_asked_make_it_ask_again() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    bench.make_sandbox(&pod);
    assert_eq!(bench.after(Event::ImagesChanged), [""; 0], "one question is in flight");
    assert_eq!(missing(&mut bench, &pod, &not_there()), ["ResolveImage c"]);
    missing(&mut bench, &pod, &not_there());
    assert_eq!(bench.wake_in, Some(Duration::from_secs(10)), "the answer that came too early did not count");
}

#[test]
fn a_missing_image_does_not_keep_the_sandbox_from_being_made() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    missing(&mut bench, &pod, &not_there());
    assert_eq!(bench.after(Event::Prepared { uid: pod.uid.clone() }), ["EnsureSandbox one"]);
    let ready = Event::SandboxReady { uid: pod.uid.clone(), ip: Some("10.85.0.9".parse().expect("an address")) };
    assert_eq!(bench.after(ready), ["Persist one"]);
    let status = bench.status(&pod);
    assert_eq!(status.pod_ip.as_deref(), Some("10.85.0.9"));
    let first = &status.conditions.expect("conditions")[0];
    assert_eq!((first.type_.as_str(), first.status.as_str()), ("PodReadyToStartContainers", "True"));
}
