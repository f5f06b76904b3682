//! Verbs that stay connected: logs, exec, stop-pods.

use super::*;

#[test]
fn logs_are_printed_as_the_container_wrote_them() {
    let dir = Dir::new();
    let path = dir.write("0.log", "2026-11-23T23:06:01.000000000Z stdout F one\n2026-11-23T23:06:02.000000000Z stderr P tw\n2026-11-23T23:06:02.500000000Z stderr F o\n");
    let fake = Fake::new(move |query| match query {
        Query::Log(log) if log.container == "c" => Answer::Log(LogPlace { path: path.clone(), writer: None }),
        Query::Log(_) => Answer::Refused {
            status: 400,
            message: "container \"d\" in pod \"web-n\" is waiting to start: ContainerCreating".to_owned(),
        },
        other => table(other),
    });
    let ran = fake.run(&["logs", "web", "-n", "default"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "one\ntwo\n"));
    assert_eq!(ran.stderr, "Defaulted container \"c\" out of: c, d\n");
    let ran = fake.run(&["logs", "web", "-n", "default", "-c", "c", "--tail=1", "--timestamps", "-f"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "2026-11-23T23:06:02.000000000Z two\n", ""));
    let ran = fake.run(&["logs", "web", "-n", "default", "-c", "d"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "container \"d\" in pod \"web-n\" is waiting to start: ContainerCreating\n")
    );
    let ran = fake.run(&["logs", "web", "-n", "default", "-c", "x"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "container \"x\" not found in pod \"web-n\"\n"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = Dir::new();
    let path = dir.write("0.log", &"2026-11-23T23:06:01.000000000Z stdout F line\n".repeat(50_000));
    let fake = Fake::new(move |query| match query {
        Query::Log(_) => Answer::Log(LogPlace { path: path.clone(), writer: None }),
        other => table(other),
    });
    let mut command = fake.command(&["logs", "web", "-n", "default", "-c", "c"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    drop(child.stdout.take());
    let ran = ran(child.wait_with_output().expect("ended"));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn exec_passes_input_output_and_the_exit_status_on() {
    let fake = Fake::new(|query| match query {
        Query::Exec { request, .. } => Answer::Session(Session(Box::new(move |mut stream| {
            http::write_upgrade(&mut stream, frame::PROTOCOL).expect("sent");
            let mut echo = Vec::new();
            if request.stdin {
                while let Ok(Some(Frame::Stdin(bytes))) = frame::read(&mut stream) {
                    if bytes.is_empty() {
                        break;
                    }
                    echo.extend(bytes);
                }
            }
            echo.extend(request.command.join(" ").into_bytes());
            for frame in [
                Frame::Stdout(echo),
                Frame::Stderr(b"warning\n".to_vec()),
                Frame::Exit(ExecExit { code: 7, error: None }),
            ] {
                frame::write(&mut stream, &frame).expect("sent");
            }
        }))),
        other => table(other),
    });
    let ran_one = fake.run(&["exec", "web", "-n", "default", "-c", "c", "--", "echo", "-n", "a b"]);
    assert_eq!((ran_one.code, ran_one.stdout.as_str(), ran_one.stderr.as_str()), (7, "echo -n a b", "warning\n"));
    let mut command = fake.command(&["exec", "-i", "web", "-n", "default", "-c", "c", "--", "cat"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    child.stdin.take().expect("a pipe").write_all(b"hello ").expect("sent");
    let ran = ran(child.wait_with_output().expect("ended"));
    assert_eq!((ran.code, ran.stdout.as_str()), (7, "hello cat"));
}

#[test]
fn stop_pods_leaves_the_marker_and_waits_for_the_agent() {
    let fake = Fake::new(table);
    let ran = fake.run(&["stop-pods"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(fake.dir.0.join("stopped").exists());
    let slow = Fake::new(|_| {
        let left = vec!["default/web-n".to_owned()];
        Answer::StopProgress(StopProgress { marker_seen: true, left, largest_grace_seconds: 600 })
    });
    let ran = slow.run(&["stop-pods", "--timeout", "300ms"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "not stopped in time: default/web-n\n"));
}
