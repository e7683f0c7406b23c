//! Questions of a client about itself (section 7.6): how the server sees it, and whether it could listen for it.

use std::io;

use jiff::Timestamp;
use tokio::io::AsyncWriteExt as _;
use tunnel::dial::in_time;
use tunnel::socket::Socket;
use wire_protocol::codec::encode;
use wire_protocol::message::{Diagnosis, ListenState, Question, RefusedCode, Target};
use wire_protocol::stream::Channel;

use crate::access::{Permit, octets, seconds};
use crate::services::handler::{Handler, Served};
use crate::services::listen::Listening;
use crate::services::request::RequestContext;

/// Answers questions of a client about itself.
#[derive(Debug)]
pub(crate) struct Diagnoses<'a> {
    /// The service that the question of a client that wants to listen is about, where it is offered.
    pub(crate) listening: Option<&'a Listening>,
}

impl Handler for Diagnoses<'_> {
    async fn serve(
        &self,
        channel: Channel<Socket>,
        request: &RequestContext<'_>,
        _permit: Permit,
    ) -> io::Result<Served> {
        let Target::Diagnosis { question } = request.target else {
            return request.refuse(channel, RefusedCode::NotOffered.into()).await.map(Served::Idle);
        };
        let diagnosis = match question {
            Question::Client => Diagnosis::Client {
                now: seconds(Timestamp::now()),
                name: request.principal.name.clone(),
                expires: request.principal.grant.expires.map(seconds),
                source: octets(request.origin.source),
            },
            Question::Listen { address, kind } => Diagnosis::Listen {
                state: match self.listening {
                    Some(listening) => listening.look(request.principal, address, *kind).await,
                    None => ListenState::Refused { code: RefusedCode::NotOffered },
                },
            },
        };
        let mut answer = Vec::new();
        encode(&diagnosis, &mut answer);
        in_time(async {
            let mut stream = channel.answer_open().await?;
            stream.write_all(&answer).await?;
            stream.finish().await.map(Served::Idle)
        })
        .await
    }
}
