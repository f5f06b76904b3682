//! Fields that are right for Kubernetes and refused here: what only an API server could give, and what is not built.
//!
//! Every type is taken apart field by field, so that a field that Kubernetes adds one day stops the build here instead
//! of being ignored in the field. A field that holds what it has when left out is accepted.

mod container;
mod volume;

use super::report::Report;
use crate::yaml::Path;
use k8s_openapi::api::core::v1::{Pod, PodOS, PodSecurityContext, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Annotations that a kubelet still acts on as a security setting; no field of a Pod shows them.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Looks at the pod as written, before defaults.
pub(super) fn refuse(report: &mut Report<'_>, pod: &Pod) {
    let Pod { metadata: meta, spec, status: _ } = pod;
    metadata(report, meta);
    if let Some(pod_spec) = spec {
        pod_level(report, pod_spec);
        references(report, pod_spec);
        let path = Path::root().field("spec");
        let host_network = pod_spec.host_network == Some(true);
        for (index, item) in pod_spec.containers.iter().enumerate() {
            container::refuse(report, &path.field("containers").index(index), item, host_network);
        }
        for (index, item) in pod_spec.volumes.iter().flatten().enumerate() {
            volume::refuse(report, &path.field("volumes").index(index), item);
        }
    }
}

/// One row of a refusal: the field's name, and whether it holds something other than when left out.
type Row = (&'static str, bool);

fn rows(report: &mut Report<'_>, path: &Path, rows: &[Row]) {
    for (name, set) in rows {
        if *set {
            report.not_yet(&path.field(name));
        }
    }
}

fn is_set<T: Default + PartialEq>(field: &Option<T>) -> bool {
    field.as_ref().is_some_and(|value| *value != T::default())
}

fn metadata(report: &mut Report<'_>, meta: &ObjectMeta) {
    let ObjectMeta {
        annotations,
        creation_timestamp: _,
        deletion_grace_period_seconds,
        deletion_timestamp,
        finalizers,
        generate_name,
        generation,
        labels: _,
        managed_fields,
        name: _,
        namespace: _,
        owner_references,
        resource_version,
        self_link,
        uid: _,
    } = meta;
    let path = Path::root().field("metadata");
    rows(
        report,
        &path,
        &[
            ("deletionGracePeriodSeconds", deletion_grace_period_seconds.is_some()),
            ("deletionTimestamp", deletion_timestamp.is_some()),
            ("finalizers", is_set(finalizers)),
            ("generateName", is_set(generate_name)),
            ("generation", is_set(generation)),
            ("managedFields", is_set(managed_fields)),
            ("ownerReferences", is_set(owner_references)),
            ("resourceVersion", is_set(resource_version)),
            ("selfLink", is_set(self_link)),
        ],
    );
    for key in annotations.iter().flatten().map(|(key, _)| key).filter(|key| key.starts_with(APPARMOR_ANNOTATION)) {
        report.not_yet(&path.field("annotations").key(key));
    }
}

fn pod_level(report: &mut Report<'_>, spec: &PodSpec) {
    let PodSpec {
        active_deadline_seconds,
        affinity: _,
        automount_service_account_token: _,
        containers: _,
        dns_config,
        dns_policy,
        enable_service_links: _,
        ephemeral_containers,
        host_aliases: _,
        host_ipc: _,
        host_network: _,
        host_pid: _,
        host_users,
        hostname: _,
        hostname_override,
        image_pull_secrets: _,
        init_containers,
        node_name: _,
        node_selector,
        os,
        overhead,
        preemption_policy: _,
        priority: _,
        priority_class_name: _,
        readiness_gates: _,
        resource_claims: _,
        resources,
        restart_policy: _,
        runtime_class_name,
        scheduler_name: _,
        scheduling_gates,
        scheduling_group,
        security_context,
        service_account: _,
        service_account_name: _,
        set_hostname_as_fqdn,
        share_process_namespace,
        subdomain,
        termination_grace_period_seconds: _,
        tolerations: _,
        topology_spread_constraints: _,
        volumes: _,
    } = spec;
    let path = Path::root().field("spec");
    let linux = |os: &PodOS| os.name.is_empty() || os.name == "linux";
    rows(
        report,
        &path,
        &[
            ("activeDeadlineSeconds", active_deadline_seconds.is_some()),
            ("dnsConfig", is_set(dns_config)),
            ("hostUsers", *host_users == Some(false)),
            ("hostnameOverride", is_set(hostname_override)),
            ("initContainers", is_set(init_containers)),
            ("nodeSelector", is_set(node_selector)),
            ("os", !os.as_ref().is_none_or(linux)),
            ("overhead", is_set(overhead)),
            ("resources", is_set_resources(resources.as_ref())),
            ("runtimeClassName", is_set(runtime_class_name)),
            ("schedulingGroup", is_set(scheduling_group)),
            ("setHostnameAsFQDN", is_set(set_hostname_as_fqdn)),
            ("shareProcessNamespace", is_set(share_process_namespace)),
            ("subdomain", is_set(subdomain)),
        ],
    );
    if matches!(dns_policy.as_deref(), Some("None" | "ClusterFirstWithHostNet")) {
        report.value_not_yet(&path.field("dnsPolicy"));
    }
    if is_set(ephemeral_containers) {
        report.forbidden(&path.field("ephemeralContainers"), "cannot be set on create");
    }
    if is_set(scheduling_gates) {
        report.forbidden(&path.field("schedulingGates"), "static pods are not scheduled");
    }
    if let Some(context) = security_context {
        pod_security(report, &path.field("securityContext"), context);
    }
}

/// `resources: {limits: {}}` says as little as `resources: {}`.
fn is_set_resources(resources: Option<&ResourceRequirements>) -> bool {
    resources.is_some_and(|resources| {
        let ResourceRequirements { claims, limits, requests } = resources;
        is_set(claims) || is_set(limits) || is_set(requests)
    })
}

fn pod_security(report: &mut Report<'_>, path: &Path, context: &PodSecurityContext) {
    let PodSecurityContext {
        app_armor_profile,
        fs_group,
        fs_group_change_policy,
        run_as_group,
        run_as_non_root,
        run_as_user,
        se_linux_change_policy,
        se_linux_options,
        seccomp_profile,
        supplemental_groups,
        supplemental_groups_policy,
        sysctls,
        windows_options,
    } = context;
    rows(
        report,
        path,
        &[
            ("appArmorProfile", app_armor_profile.is_some()),
            ("fsGroup", fs_group.is_some()),
            ("fsGroupChangePolicy", is_set(fs_group_change_policy)),
            ("runAsGroup", run_as_group.is_some()),
            ("runAsNonRoot", is_set(run_as_non_root)),
            ("runAsUser", run_as_user.is_some()),
            ("seLinuxChangePolicy", is_set(se_linux_change_policy)),
            ("seLinuxOptions", is_set(se_linux_options)),
            ("seccompProfile", seccomp_profile.is_some()),
            ("supplementalGroups", is_set(supplemental_groups)),
            ("supplementalGroupsPolicy", is_set(supplemental_groups_policy)),
            ("sysctls", is_set(sysctls)),
            ("windowsOptions", is_set(windows_options)),
        ],
    );
}

/// The pod-level part of the kubelet's `HasAPIObjectReference`.
fn references(report: &mut Report<'_>, spec: &PodSpec) {
    let path = Path::root().field("spec");
    for (name, account) in
        [("serviceAccountName", &spec.service_account_name), ("serviceAccount", &spec.service_account)]
    {
        if is_set(account) {
            report.reference(&path.field(name), "serviceaccounts");
        }
    }
    if spec.image_pull_secrets.iter().flatten().any(|secret| !secret.name.is_empty()) {
        report.reference(&path.field("imagePullSecrets"), "secrets");
    }
    if is_set(&spec.resource_claims) {
        report.reference(&path.field("resourceClaims"), "resourceclaims");
    }
}
