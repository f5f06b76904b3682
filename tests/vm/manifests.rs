//! The pods of these tests. Each writes what happened to it below /var/vm-data of the guest, and flushes it, so that the
//! story can be read after the machine is off.

pub const ALL: &[(&str, &str)] = &[
    ("web.yaml", WEB),
    ("graceful.yaml", GRACEFUL),
    ("stubborn.yaml", STUBBORN),
    ("once.yaml", ONCE),
    ("crash.yaml", CRASH),
];

/// The grace period of the pod that never ends by itself.
pub const STUBBORN_GRACE_SECONDS: u64 = 8;

/// A real Node.js on the pod network.
const WEB: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: nodejs
    image: kalise/nodejs-web-app:latest
    ports:
    - containerPort: 8080
";

/// Ends as it is asked to, and says so.
const GRACEFUL: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: graceful
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 60
  containers:
  - name: main
    image: busybox
    command:
    - sh
    - -c
    - |
      echo started >> /data/graceful
      trap 'echo asked >> /data/graceful; sync; exit 0' TERM
      while :; do sleep 1 & wait $!; done
    resources:
      limits:
        memory: 64Mi
    volumeMounts:
    - name: data
      mountPath: /data
  volumes:
  - name: data
    hostPath:
      path: /var/vm-data
      type: DirectoryOrCreate
";

/// Hears the question and goes on.
const STUBBORN: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: stubborn
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 8
  containers:
  - name: main
    image: busybox
    command:
    - sh
    - -c
    - |
      trap 'echo asked >> /data/stubborn; sync' TERM
      while :; do sleep 1 & wait $!; done
    volumeMounts:
    - name: data
      mountPath: /data
  volumes:
  - name: data
    hostPath:
      path: /var/vm-data
      type: DirectoryOrCreate
";

/// Runs once in its life.
const ONCE: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: once
spec:
  hostNetwork: true
  restartPolicy: Never
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'echo ran >> /data/once; sync']
    volumeMounts:
    - name: data
      mountPath: /data
  volumes:
  - name: data
    hostPath:
      path: /var/vm-data
      type: DirectoryOrCreate
";

/// Fails at once; each start leaves the kernel's uptime, which no step of the clock changes.
const CRASH: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: crash
spec:
  hostNetwork: true
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'cat /proc/uptime >> /data/crash; exit 1']
    volumeMounts:
    - name: data
      mountPath: /data
  volumes:
  - name: data
    hostPath:
      path: /var/vm-data
      type: DirectoryOrCreate
";
