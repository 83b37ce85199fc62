//! etcd's members: who they are, whether they are well, who leads, and whether there are enough of them.
//!
//! Asked over HTTP: `/health`, and the JSON side of its gRPC API (`/v3/…`, etcd 3.4 and later), each with a client
//! certificate.

use serde_json::{Value, json};

use super::api_server::{json as success, refusal, unusable};
use super::cluster::texts;
use super::credential::Credential;
use super::{NoAnswer, tidy};
use crate::node::Node;
use crate::node::http::{Limits, Request, Response, ask};
use crate::node::probe::Endpoint;
use crate::node::tls::Tls;

/// One member and who asks it.
#[derive(Debug, Clone)]
pub struct Etcd<'a> {
    node: &'a dyn Node,
    endpoint: Endpoint,
    tls: Tls,
    limits: Limits,
}

/// A member as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Its name, the node's with kubeadm; empty until it has started once.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started once.
    pub client_urls: Vec<String>,
    /// Whether it only learns and does not vote yet.
    pub is_learner: bool,
}

/// What a member says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its number.
    pub id: u64,
    /// Its version, as `3.6.10`.
    pub version: String,
    /// The leader's number; `None` while there is no leader.
    pub leader: Option<u64>,
    /// Raft term: grows with every election.
    pub term: u64,
    /// Raft index: how far it has come.
    pub index: u64,
    /// Alarms and errors, in etcd's own words.
    pub errors: Vec<String>,
}

/// The members together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// Members that vote.
    pub voters: usize,
    /// Those of them that answered and know a leader.
    pub well: usize,
    /// The leader, when everybody who answered names the same.
    pub leader: Option<u64>,
}

impl Quorum {
    /// Counts `members` by what each that was asked has answered.
    pub fn of<'s>(members: &[Member], answers: impl IntoIterator<Item = &'s MemberStatus>) -> Self {
        let voters: Vec<u64> = members.iter().filter(|member| !member.is_learner).map(|member| member.id).collect();
        let answers: Vec<&MemberStatus> = answers.into_iter().filter(|status| voters.contains(&status.id)).collect();
        let mut well: Vec<u64> =
            answers.iter().filter(|status| status.leader.is_some()).map(|status| status.id).collect();
        well.sort_unstable();
        well.dedup();
        let mut leaders = answers.iter().map(|status| status.leader);
        let first = leaders.next().flatten();
        let leader = if leaders.all(|other| other == first) { first } else { None };
        Self { voters: voters.len(), well: well.len(), leader }
    }

    /// Whether writes go through now.
    pub fn is_there(&self) -> bool {
        self.well > self.voters / 2 && self.leader.is_some()
    }

    /// Whether writes would still go through with one of the members that are well away. Never with fewer than three.
    pub fn can_spare_one(&self) -> bool {
        self.is_there() && self.well > self.voters / 2 + 1
    }
}

impl<'a> Etcd<'a> {
    /// The member at `endpoint` as `node` reaches it.
    ///
    /// # Errors
    /// In words, when the credential is of no use.
    pub fn new(
        node: &'a dyn Node,
        endpoint: Endpoint,
        credential: &Credential,
        limits: Limits,
    ) -> Result<Self, String> {
        Ok(Self { node, endpoint, tls: credential.tls()?, limits })
    }

    /// The same asker at another member.
    #[must_use]
    pub fn at(&self, endpoint: Endpoint) -> Self {
        Self { endpoint, ..self.clone() }
    }

    /// Whether the member is well and has a quorum behind it: it answers reads that a leader confirms.
    ///
    /// # Errors
    /// When it is not, with etcd's reason.
    pub fn healthy(&self) -> Result<(), NoAnswer> {
        let answer = self.ask(&Request::get("/health"))?;
        let object: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if object["health"] == "true" {
            return Ok(());
        }
        match object["reason"].as_str().filter(|reason| !reason.is_empty()) {
            Some(reason) => Err(NoAnswer::Status {
                status: answer.status,
                reason: String::new(),
                message: format!("etcd is not healthy: {}", tidy(reason)),
            }),
            None => Err(refusal(&answer)),
        }
    }

    /// Every member of the cluster, as this one knows them.
    ///
    /// # Errors
    /// When it does not say, as without a quorum.
    pub fn members(&self) -> Result<Vec<Member>, NoAnswer> {
        let answer = self.call("/v3/cluster/member/list")?;
        let list = answer["members"].as_array().ok_or_else(|| NoAnswer::Malformed("no members".to_owned()))?;
        let members = list.iter().map(|member| {
            Some(Member {
                id: number(&member["ID"])?,
                name: member["name"].as_str().unwrap_or_default().to_owned(),
                peer_urls: texts(&member["peerURLs"]),
                client_urls: texts(&member["clientURLs"]),
                is_learner: member["isLearner"] == true,
            })
        });
        members.collect::<Option<_>>().ok_or_else(|| NoAnswer::Malformed("a member without a number".to_owned()))
    }

    /// What the member says about itself; without a leader too.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn status(&self) -> Result<MemberStatus, NoAnswer> {
        let answer = self.call("/v3/maintenance/status")?;
        let id = number(&answer["header"]["member_id"]);
        Ok(MemberStatus {
            id: id.ok_or_else(|| NoAnswer::Malformed("a status without a member".to_owned()))?,
            version: answer["version"].as_str().unwrap_or_default().to_owned(),
            leader: number(&answer["leader"]).filter(|id| *id != 0),
            term: number(&answer["raftTerm"]).unwrap_or_default(),
            index: number(&answer["raftIndex"]).unwrap_or_default(),
            errors: texts(&answer["errors"]).iter().map(|text| tidy(text)).collect(),
        })
    }

    /// Makes another member the leader, if this one is it: an election that nobody waits for, where the end of a leader
    /// would be one that everybody waits for. Returns its name; `None` when there was nothing to do, or nobody to lead.
    ///
    /// # Errors
    /// When it does not do so.
    pub fn hand_over(&self) -> Result<Option<String>, NoAnswer> {
        let own = self.status()?;
        if own.leader != Some(own.id) {
            return Ok(None);
        }
        for member in self.members()?.iter().filter(|member| member.id != own.id && !member.is_learner) {
            let is_well = client_endpoint(member).is_ok_and(|endpoint| self.at(endpoint).healthy().is_ok());
            if is_well {
                let body = json!({ "targetID": member.id.to_string() });
                self.post("/v3/maintenance/transfer-leadership", &body)?;
                return Ok(Some(member.name.clone()));
            }
        }
        Ok(None)
    }

    /// The certificates the member serves just now, leaf first, as DER.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn served(&self) -> Result<Vec<Vec<u8>>, NoAnswer> {
        Ok(self.ask(&Request::get("/version"))?.shown)
    }

    fn call(&self, path: &str) -> Result<Value, NoAnswer> {
        self.post(path, &json!({}))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, NoAnswer> {
        let text = body.to_string();
        let content = Some(("application/json", text.as_bytes()));
        success(&self.ask(&Request { method: "POST", content, ..Request::get(path) })?)
    }

    fn ask(&self, request: &Request<'_>) -> Result<Response, NoAnswer> {
        self.ask_within(request, self.limits)
    }

    pub(super) fn ask_within(&self, request: &Request<'_>, limits: Limits) -> Result<Response, NoAnswer> {
        Ok(ask(self.node, &self.endpoint, Some(&self.tls), request, limits)?)
    }
}

/// Where the first of a member's client addresses is.
///
/// # Errors
/// When it has none, or none that can be read.
pub fn client_endpoint(member: &Member) -> Result<Endpoint, NoAnswer> {
    let url = member.client_urls.first().ok_or_else(|| unusable("the member has no address for clients".to_owned()))?;
    url.parse().map_err(unusable)
}

/// The JSON side of gRPC writes 64-bit numbers as texts.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, is_learner: bool) -> Member {
        Member { id, name: String::new(), peer_urls: Vec::new(), client_urls: Vec::new(), is_learner }
    }

    fn status(id: u64, leader: Option<u64>) -> MemberStatus {
        MemberStatus { id, version: String::new(), leader, term: 1, index: 1, errors: Vec::new() }
    }

    #[test]
    fn a_quorum_is_more_than_half_of_those_that_vote_and_one_leader() {
        let three: Vec<Member> = (1..=3).map(|id| member(id, false)).collect();
        let of = |members: &[Member], answers: &[MemberStatus]| {
            let quorum = Quorum::of(members, answers);
            (quorum.is_there(), quorum.can_spare_one())
        };
        let all: Vec<MemberStatus> = (1..=3).map(|id| status(id, Some(2))).collect();
        assert_eq!(of(&three, &all), (true, true));
        assert_eq!(of(&three, &all[..2]), (true, false));
        assert_eq!(of(&three, &all[..1]), (false, false));
        assert_eq!(of(&three, &[all[0].clone(), all[0].clone()]), (false, false), "nobody counts twice");
        assert_eq!(of(&three, &[all[0].clone(), status(2, Some(3))]), (false, false), "two leaders are none");
        assert_eq!(of(&three, &[all[0].clone(), status(2, None)]), (false, false));
        assert_eq!(of(&three[..1], &[status(1, Some(1))]), (true, false));
        let learning = [member(1, false), member(2, true)];
        assert_eq!(of(&learning, &[status(1, Some(1)), status(2, Some(1))]), (true, false));
        assert_eq!(of(&[], &[]), (false, false));
    }

    #[test]
    fn numbers_come_as_texts() {
        assert_eq!(number(&json!("18446744073709551615")), Some(u64::MAX));
        assert_eq!(number(&json!(7)), Some(7));
        assert_eq!(number(&json!("x")), None);
    }
}
