//! TLS servers to artifacts: what each shows, or why it shows nothing.

use std::path::PathBuf;
use std::time::Duration;

use crate::node::probe::{self, Endpoint};
use crate::pki::certificate::Certificate;
use crate::snapshot::{Artifact, Content, Source, State};

/// Asks all servers, side by side; each takes `limit` at most. `server_name` is the name each is asked for and has to
/// have in its certificate; its host if there is none.
pub fn endpoints(servers: &[Endpoint], server_name: Option<&str>, limit: Duration) -> Vec<Artifact> {
    std::thread::scope(|scope| {
        let ask = |server| scope.spawn(move || probe::chain(server, server_name, limit));
        let running: Vec<_> = servers.iter().map(|server| (server, ask(server))).collect();
        let asked = running.into_iter().map(|(server, thread)| {
            let answer = thread.join().unwrap_or_else(|_| Err("asking it ended in a defect".to_owned()));
            artifact(server, server_name, answer)
        });
        asked.collect()
    })
}

fn artifact(server: &Endpoint, server_name: Option<&str>, answer: Result<Vec<Vec<u8>>, String>) -> Artifact {
    let state = match answer {
        Ok(chain) => State::Read(Box::new(Content {
            found_certificates: chain.iter().map(|der| Certificate::from_der(der)).collect(),
            server_name: Some(server_name.unwrap_or(&server.host).to_owned()),
            ..Content::default()
        })),
        Err(reason) => State::Unreadable(reason),
    };
    let path = PathBuf::from(server.to_string());
    Artifact { path, source: Source::Endpoint, part: None, server: None, link: None, metadata: None, state }
}
