//! What is refused of a volume: all but hostPath and emptyDir.

use super::super::report::Report;
use crate::yaml::Path;
use k8s_openapi::api::core::v1::{LocalObjectReference, ProjectedVolumeSource, Volume, VolumeProjection};

pub(super) fn refuse(report: &mut Report<'_>, path: &Path, volume: &Volume) {
    if let Some((field, what)) = reference(volume) {
        let held_beside = what.starts_with("configmaps") || what.starts_with("secrets");
        if held_beside && matches!(field, "configMap" | "secret" | "projected") {
            report.local_reference(&path.field(field), what);
        } else {
            report.reference(&path.field(field), what);
        }
    } else if let Some(field) = other_source(volume) {
        report.not_yet(&path.field(field));
    }
    let medium = volume.empty_dir.as_ref().and_then(|source| source.medium.as_deref());
    if medium.is_some_and(|medium| medium.starts_with("HugePages")) {
        report.value_not_yet(&path.field("emptyDir").field("medium"));
    }
}

/// The first source that is not built yet.
fn other_source(volume: &Volume) -> Option<&'static str> {
    let Volume {
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        config_map,
        csi,
        downward_api,
        empty_dir: _,
        ephemeral,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        git_repo,
        glusterfs,
        host_path: _,
        image,
        iscsi,
        name: _,
        nfs,
        persistent_volume_claim,
        photon_persistent_disk,
        portworx_volume,
        projected,
        quobyte,
        rbd,
        scale_io,
        secret,
        storageos,
        vsphere_volume,
    } = volume;
    let rows = [
        ("awsElasticBlockStore", aws_elastic_block_store.is_some()),
        ("azureDisk", azure_disk.is_some()),
        ("azureFile", azure_file.is_some()),
        ("cephfs", cephfs.is_some()),
        ("cinder", cinder.is_some()),
        ("configMap", config_map.is_some()),
        ("csi", csi.is_some()),
        ("downwardAPI", downward_api.is_some()),
        ("ephemeral", ephemeral.is_some()),
        ("fc", fc.is_some()),
        ("flexVolume", flex_volume.is_some()),
        ("flocker", flocker.is_some()),
        ("gcePersistentDisk", gce_persistent_disk.is_some()),
        ("gitRepo", git_repo.is_some()),
        ("glusterfs", glusterfs.is_some()),
        ("image", image.is_some()),
        ("iscsi", iscsi.is_some()),
        ("nfs", nfs.is_some()),
        ("persistentVolumeClaim", persistent_volume_claim.is_some()),
        ("photonPersistentDisk", photon_persistent_disk.is_some()),
        ("portworxVolume", portworx_volume.is_some()),
        ("projected", projected.is_some()),
        ("quobyte", quobyte.is_some()),
        ("rbd", rbd.is_some()),
        ("scaleIO", scale_io.is_some()),
        ("secret", secret.is_some()),
        ("storageos", storageos.is_some()),
        ("vsphereVolume", vsphere_volume.is_some()),
    ];
    rows.into_iter().find(|(_, set)| *set).map(|(field, _)| field)
}

/// The kubelet's `HasAPIObjectReference` for one volume: which field, and what it may not reference. A named Secret or
/// ConfigMap comes before the rule for the volume's type.
fn reference(volume: &Volume) -> Option<(&'static str, &'static str)> {
    let named = |reference: Option<&LocalObjectReference>| reference.is_some_and(|secret| !secret.name.is_empty());
    let secrets = [
        ("secret", volume.secret.as_ref().is_some_and(|s| s.secret_name.as_ref().is_some_and(|name| !name.is_empty()))),
        ("azureFile", volume.azure_file.as_ref().is_some_and(|s| !s.secret_name.is_empty())),
        ("cephfs", named(volume.cephfs.as_ref().and_then(|s| s.secret_ref.as_ref()))),
        ("cinder", named(volume.cinder.as_ref().and_then(|s| s.secret_ref.as_ref()))),
        ("flexVolume", named(volume.flex_volume.as_ref().and_then(|s| s.secret_ref.as_ref()))),
        ("rbd", named(volume.rbd.as_ref().and_then(|s| s.secret_ref.as_ref()))),
        ("scaleIO", named(volume.scale_io.as_ref().map(|s| &s.secret_ref))),
        ("iscsi", named(volume.iscsi.as_ref().and_then(|s| s.secret_ref.as_ref()))),
        ("storageos", named(volume.storageos.as_ref().and_then(|s| s.secret_ref.as_ref()))),
        ("csi", named(volume.csi.as_ref().and_then(|s| s.node_publish_secret_ref.as_ref()))),
        ("projected", projects(volume.projected.as_ref(), |p| p.secret.as_ref().is_some_and(|s| !s.name.is_empty()))),
    ];
    if let Some((field, _)) = secrets.into_iter().find(|(_, set)| *set) {
        return Some((field, "secrets"));
    }
    let maps = [
        ("configMap", volume.config_map.as_ref().is_some_and(|s| !s.name.is_empty())),
        (
            "projected",
            projects(volume.projected.as_ref(), |p| p.config_map.as_ref().is_some_and(|s| !s.name.is_empty())),
        ),
    ];
    if let Some((field, _)) = maps.into_iter().find(|(_, set)| *set) {
        return Some((field, "configmaps"));
    }
    let types = [
        ("configMap", volume.config_map.is_some(), "configmaps (via configmap volumes)"),
        ("secret", volume.secret.is_some(), "secrets (via secret volumes)"),
        ("csi", volume.csi.is_some(), "csidrivers (via CSI volumes)"),
        ("glusterfs", volume.glusterfs.is_some(), "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some(), "persistentvolumeclaims"),
        ("ephemeral", volume.ephemeral.is_some(), "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", volume.azure_file.is_some(), "secrets (via azureFile volumes)"),
    ];
    if let Some((field, _, what)) = types.into_iter().find(|(_, set, _)| *set) {
        return Some((field, what));
    }
    projected_reference(volume.projected.as_ref()).map(|what| ("projected", what))
}

fn projects(source: Option<&ProjectedVolumeSource>, test: impl Fn(&VolumeProjection) -> bool) -> bool {
    source.is_some_and(|source| source.sources.iter().flatten().any(test))
}

fn projected_reference(source: Option<&ProjectedVolumeSource>) -> Option<&'static str> {
    source?.sources.iter().flatten().find_map(|projection| {
        let VolumeProjection {
            cluster_trust_bundle,
            config_map,
            downward_api: _,
            pod_certificate,
            secret,
            service_account_token,
        } = projection;
        let rows = [
            (config_map.is_some(), "configmaps (via projected volumes)"),
            (secret.is_some(), "secrets (via projected volumes)"),
            (service_account_token.is_some(), "serviceaccounts (via projected volumes)"),
            (cluster_trust_bundle.is_some(), "clustertrustbundles"),
            (pod_certificate.is_some(), "podcertificates"),
        ];
        rows.into_iter().find(|(set, _)| *set).map(|(_, what)| what)
    })
}
