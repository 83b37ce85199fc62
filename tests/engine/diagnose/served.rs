//! The servers of a node: what each shows beside what lies in its file.

use kubepki::pki::pem_file::PemFile;
use kubepki::pki::server::Server;

use super::*;

/// What `server` shows, or why it shows nothing.
fn shows(server: Server, shown: Result<&[&Certificate], &str>) -> Artifact {
    let state = match shown {
        Ok(chain) => State::Read(Box::new(Content {
            found_certificates: chain.iter().map(|one| Ok((*one).clone())).collect(),
            ..Content::default()
        })),
        Err(reason) => State::Unreadable(reason.to_owned()),
    };
    let path = PathBuf::from(format!("10.0.0.1:{}", server.port()));
    Artifact { path, source: Source::Endpoint, part: None, server: Some(server), link: None, metadata: None, state }
}

/// A node with that server.
fn with(cluster: &Cluster, server: Artifact) -> Snapshot {
    let mut snapshot = look(&cluster.write());
    let addresses = vec!["10.0.0.1".parse().unwrap()];
    snapshot.nodes[0].facts = Some(Facts { host_name: "cp1".into(), clock_skew: Duration::ZERO, addresses });
    snapshot.nodes[0].artifacts.push(server);
    snapshot
}

fn message(snapshot: &Snapshot, id: FindingId) -> String {
    let diagnosis = diagnose::diagnose(snapshot, &Policy::at(NOW));
    diagnosis.findings().find(|(_, it)| it.id == id).unwrap().1.message.clone()
}

fn on_disk(cluster: &Cluster, path: &str) -> Certificate {
    let file = PemFile::parse(cluster.files[path].0.as_bytes());
    Certificate::from_der(&file.certificates().next().unwrap().der).unwrap()
}

#[test]
fn servers_that_show_their_files_are_well() {
    let cluster = Cluster::healthy();
    for (server, file) in
        [(Server::ApiServer, "apiserver.crt"), (Server::Etcd, "etcd/server.crt"), (Server::EtcdPeer, "etcd/peer.crt")]
    {
        let shown = on_disk(&cluster, &format!("{PKI}/{file}"));
        assert_eq!(found(&with(&cluster, shows(server, Ok(&[&shown]))), &Policy::at(NOW)), BTreeSet::new());
    }
    let kubelet = on_disk(&cluster, "/var/lib/kubelet/pki/kubelet.crt");
    assert_eq!(found(&with(&cluster, shows(Server::Kubelet, Ok(&[&kubelet]))), &Policy::at(NOW)), BTreeSet::new());
}

#[test]
fn what_was_renewed_on_the_disk_and_is_not_shown_yet_is_told_with_both_serial_numbers() {
    let cluster = Cluster::healthy();
    let old = cluster.ca.issue_with("kube-apiserver", &[], SERVER, &apiserver_sans(), |template| {
        template.not_before = ISSUED - Duration::days(9);
    });
    let snapshot = with(&cluster, shows(Server::ApiServer, Ok(&[&old.certificate])));
    expect(&snapshot, &Policy::at(NOW), FindingId::ServedDiffers, "kube-apiserver:6443");
    let new = on_disk(&cluster, &format!("{PKI}/apiserver.crt"));
    let wanted = format!(
        "kube-apiserver on node cp1 still shows serial number {}; {PKI}/apiserver.crt was renewed and has {}",
        old.certificate.serial(),
        new.serial()
    );
    assert_eq!(message(&snapshot, FindingId::ServedDiffers), wanted);
    // The file of the other port is as good as the own one: flags may name it. That of another node is not.
    let server = on_disk(&cluster, &format!("{PKI}/etcd/server.crt"));
    let shown = with(&cluster, shows(Server::EtcdPeer, Ok(&[&server])));
    assert_eq!(found(&shown, &Policy::at(NOW)), BTreeSet::new());
    let foreign = cluster.etcd_ca.issue("cp2", &[], BOTH, &etcd_sans()).certificate;
    let mut two = with(&cluster, shows(Server::Etcd, Ok(&[&foreign])));
    let mut other = Cluster { files: cluster.files.clone(), ..Cluster::healthy() };
    other.put(&format!("{PKI}/etcd/server.crt"), foreign.to_pem(), 0o644);
    let mut second = look(&other.write()).nodes.remove(0);
    second.name = "cp2".into();
    two.nodes.push(second);
    assert!(found(&two, &Policy::at(NOW)).contains(&(FindingId::ServedDiffers, "etcd:2379".to_owned())));
}

#[test]
fn what_is_in_no_file_of_the_node_is_told() {
    let mut cluster = Cluster::healthy();
    let shown = on_disk(&cluster, &format!("{PKI}/apiserver.crt"));
    cluster.files.retain(|path, _| !path.ends_with("/apiserver.crt") && !path.ends_with("/apiserver.key"));
    let snapshot = with(&cluster, shows(Server::ApiServer, Ok(&[&shown])));
    let missing = (FindingId::FileMissing, "apiserver".to_owned());
    let shown = (FindingId::ServedNotOnDisk, "kube-apiserver:6443".to_owned());
    assert_eq!(found(&snapshot, &Policy::at(NOW)), BTreeSet::from([missing, shown]));
}

#[test]
fn what_a_server_signs_for_itself_needs_no_authority_and_what_a_stranger_signed_does() {
    let cluster = Cluster::healthy();
    let own = Pair::authority("cp1-ca@1767225600");
    let shown = own.issue("cp1@1767225600", &[], SERVER, &[]).certificate;
    for server in [Server::ControllerManager, Server::Scheduler] {
        let snapshot = with(&cluster, shows(server, Ok(&[&shown, &own.certificate])));
        assert_eq!(found(&snapshot, &Policy::at(NOW)), BTreeSet::new());
        let snapshot = with(&cluster, shows(server, Ok(&[&shown])));
        assert_eq!(found(&snapshot, &Policy::at(NOW)), BTreeSet::new());
    }
    // A CA of the cluster's name that is not the cluster's.
    let old = Pair::authority("kubernetes").issue("system:node:cp1", &["system:nodes"], SERVER, &[]).certificate;
    let snapshot = with(&cluster, shows(Server::Kubelet, Ok(&[&old])));
    assert!(found(&snapshot, &Policy::at(NOW)).contains(&(FindingId::IssuerUnknown, "kubelet:10250".to_owned())));
    let snapshot = with(&cluster, shows(Server::ApiServer, Ok(&[&shown, &own.certificate])));
    assert!(found(&snapshot, &Policy::at(NOW)).contains(&(FindingId::IssuerUnknown, "kube-apiserver:6443".to_owned())));
}

#[test]
fn a_server_that_should_run_and_says_nothing_needs_attention_and_no_more() {
    let cluster = Cluster::healthy();
    let snapshot = with(&cluster, shows(Server::Scheduler, Err("nothing listens there: connection refused")));
    expect(&snapshot, &Policy::at(NOW), FindingId::ServerSilent, "kube-scheduler:10259");
    assert_eq!(FindingId::ServerSilent.status(), Status::Attention);
    let snapshot = with(&cluster, shows(Server::Kubelet, Err("it refused the handshake: InternalError")));
    let diagnosis = diagnose::diagnose(&snapshot, &Policy::at(NOW));
    let row = diagnosis.row("kubelet:10250").unwrap();
    assert!(row.findings[0].remedy.contains("kubectl certificate approve"), "{:?}", row.findings);
}
