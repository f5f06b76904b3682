//! What is refused of a container.

use super::super::report::Report;
use super::{is_set, rows};
use crate::yaml::Path;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource, ResourceRequirements, SecurityContext,
    VolumeMount,
};

/// The resources that are limited here; a kubelet knows more.
const RESOURCES: [&str; 2] = ["cpu", "memory"];

pub(super) fn refuse(report: &mut Report<'_>, path: &Path, container: &Container, host_network: bool) {
    let Container {
        args: _,
        command: _,
        env,
        env_from,
        image: _,
        image_pull_policy: _,
        lifecycle,
        liveness_probe,
        name: _,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path: _,
        termination_message_policy: _,
        tty,
        volume_devices,
        volume_mounts,
        working_dir: _,
    } = container;
    rows(
        report,
        path,
        &[
            ("envFrom", is_set(env_from)),
            ("lifecycle", is_set(lifecycle)),
            ("livenessProbe", liveness_probe.is_some()),
            ("readinessProbe", readiness_probe.is_some()),
            ("resizePolicy", is_set(resize_policy)),
            ("restartPolicy", is_set(restart_policy)),
            ("restartPolicyRules", is_set(restart_policy_rules)),
            ("startupProbe", startup_probe.is_some()),
            ("stdin", is_set(stdin)),
            ("stdinOnce", is_set(stdin_once)),
            ("tty", is_set(tty)),
            ("volumeDevices", is_set(volume_devices)),
        ],
    );
    for (index, var) in env.iter().flatten().enumerate() {
        env_var(report, &path.field("env").index(index), var);
    }
    for (index, source) in env_from.iter().flatten().enumerate() {
        env_source(report, &path.field("envFrom").index(index), source);
    }
    for (index, port) in ports.iter().flatten().enumerate() {
        host_port(report, &path.field("ports").index(index), port, host_network);
    }
    for (index, mount) in volume_mounts.iter().flatten().enumerate() {
        volume_mount(report, &path.field("volumeMounts").index(index), mount);
    }
    if let Some(requirements) = resources {
        other_resources(report, &path.field("resources"), requirements);
    }
    if let Some(context) = security_context {
        security(report, &path.field("securityContext"), context);
    }
}

fn env_var(report: &mut Report<'_>, path: &Path, var: &EnvVar) {
    let EnvVar { name: _, value: _, value_from } = var;
    let Some(source) = value_from else { return };
    let EnvVarSource { config_map_key_ref, field_ref, file_key_ref, resource_field_ref, secret_key_ref } = source;
    let path = path.field("valueFrom");
    if secret_key_ref.as_ref().is_some_and(|secret| !secret.name.is_empty()) {
        report.local_reference(&path.field("secretKeyRef"), "secrets");
    } else if config_map_key_ref.as_ref().is_some_and(|map| !map.name.is_empty()) {
        report.local_reference(&path.field("configMapKeyRef"), "configmaps");
    } else if field_ref.is_some() || file_key_ref.is_some() || resource_field_ref.is_some() {
        report.not_yet(&path);
    } else {
        let one_of =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        report.invalid(&path, "", one_of);
    }
}

fn env_source(report: &mut Report<'_>, path: &Path, source: &EnvFromSource) {
    let EnvFromSource { config_map_ref, prefix: _, secret_ref } = source;
    if secret_ref.as_ref().is_some_and(|secret| !secret.name.is_empty()) {
        report.local_reference(&path.field("secretRef"), "secrets");
    } else if config_map_ref.as_ref().is_some_and(|map| !map.name.is_empty()) {
        report.local_reference(&path.field("configMapRef"), "configmaps");
    }
}

fn host_port(report: &mut Report<'_>, path: &Path, port: &ContainerPort, host_network: bool) {
    let ContainerPort { container_port: _, host_ip, host_port, name: _, protocol: _ } = port;
    if !host_network {
        rows(report, path, &[("hostPort", is_set(host_port)), ("hostIP", is_set(host_ip) && !is_set(host_port))]);
    }
}

fn volume_mount(report: &mut Report<'_>, path: &Path, mount: &VolumeMount) {
    let VolumeMount {
        mount_path: _,
        mount_propagation,
        name: _,
        read_only: _,
        recursive_read_only,
        sub_path,
        sub_path_expr,
    } = mount;
    let other_than = |field: &Option<String>, omitted: &str| is_set(field) && field.as_deref() != Some(omitted);
    rows(
        report,
        path,
        &[
            ("mountPropagation", other_than(mount_propagation, "None")),
            ("recursiveReadOnly", other_than(recursive_read_only, "Disabled")),
            ("subPath", is_set(sub_path)),
            ("subPathExpr", is_set(sub_path_expr)),
        ],
    );
}

fn other_resources(report: &mut Report<'_>, path: &Path, requirements: &ResourceRequirements) {
    let ResourceRequirements { claims, limits, requests } = requirements;
    rows(report, path, &[("claims", is_set(claims))]);
    for (field, map) in [("limits", limits), ("requests", requests)] {
        for name in map.iter().flatten().map(|(name, _)| name).filter(|name| !RESOURCES.contains(&name.as_str())) {
            report.not_yet(&path.field(field).key(name));
        }
    }
}

fn security(report: &mut Report<'_>, path: &Path, context: &SecurityContext) {
    let SecurityContext {
        allow_privilege_escalation,
        app_armor_profile,
        capabilities,
        privileged,
        proc_mount,
        read_only_root_filesystem,
        run_as_group,
        run_as_non_root,
        run_as_user,
        se_linux_options,
        seccomp_profile,
        windows_options,
    } = context;
    let changes = |capabilities: &Capabilities| is_set(&capabilities.add) || is_set(&capabilities.drop);
    rows(
        report,
        path,
        &[
            ("allowPrivilegeEscalation", *allow_privilege_escalation == Some(false)),
            ("appArmorProfile", app_armor_profile.is_some()),
            ("capabilities", capabilities.as_ref().is_some_and(changes)),
            ("privileged", is_set(privileged)),
            ("procMount", is_set(proc_mount) && proc_mount.as_deref() != Some("Default")),
            ("readOnlyRootFilesystem", is_set(read_only_root_filesystem)),
            ("runAsGroup", run_as_group.is_some()),
            ("runAsNonRoot", is_set(run_as_non_root)),
            ("runAsUser", run_as_user.is_some()),
            ("seLinuxOptions", is_set(se_linux_options)),
            ("seccompProfile", seccomp_profile.is_some()),
            ("windowsOptions", is_set(windows_options)),
        ],
    );
}
