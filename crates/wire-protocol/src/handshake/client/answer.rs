//! The client's last flight, once the server has proven who it is.

use alloc::vec::Vec;

use crypto_core::identity::ClientKey;
use crypto_core::invite::InviteOccasion;
use crypto_core::schedule::{HandshakeStage, Side, TrafficSecret};
use rand_core::TryCryptoRng;

use super::config::{ClientConfig, ExpectedServer};
use super::welcome::ExpectWelcome;
use crate::error::Error;
use crate::handshake::{ChannelKeys, Exporter, FinishedVerified, Flight, client_auth_message};
use crate::message::{ControlMessage, HandshakeMessage, Invite, Mode, ServerLimits};
use crate::record::append_control;

/// What a client holds while it makes its last flight.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) config: ClientConfig,
    pub(super) mode: Mode,
    pub(super) stage: HandshakeStage,
    pub(super) own_secret: TrafficSecret,
    pub(super) flight: Flight,
    pub(super) limits: ServerLimits,
    #[expect(dead_code, reason = "a proof: there is no answer without a verified Finished")]
    pub(super) verified: FinishedVerified,
}

impl Answer {
    /// Says that the client does not say who it is.
    pub(super) fn finish_anonymous(mut self, out: &mut Vec<u8>) -> Result<ExpectWelcome, Error> {
        self.flight.send(&HandshakeMessage::Anonymous, out)?;
        self.finish(out)
    }

    /// Says who the client is, which takes an RSA operation, and which invite it uses.
    pub(super) fn finish_signed<R: TryCryptoRng + ?Sized>(
        mut self,
        key: &ClientKey,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<ExpectWelcome, Error> {
        let transcript = self.flight.transcript.hash();
        let client = key.public().id();
        let signature = key.sign(rng, &client_auth_message(&transcript, &client))?;
        let auth = HandshakeMessage::ClientAuth { spki: key.public().spki_der().to_vec(), signature };
        self.flight.send(&auth, out)?;
        if let (Some(secret), &ExpectedServer::Key { id: server, .. }) =
            (&self.config.invite, &self.config.server)
        {
            let presented = secret.present(&InviteOccasion { transcript, server, client });
            let (reveal, proof) = (*presented.reveal.expose(), presented.proof);
            let invite = Invite { id: presented.id.0, reveal, proof };
            self.flight.send(&HandshakeMessage::Invite(invite), out)?;
        }
        self.finish(out)
    }

    /// Says the Finished, and what is opened right behind it.
    pub(super) fn finish(self, out: &mut Vec<u8>) -> Result<ExpectWelcome, Error> {
        let Self { config, mode, stage, own_secret, mut flight, limits, .. } = self;
        let mac = own_secret.finished(&flight.transcript.hash());
        flight.send(&HandshakeMessage::Finished { mac }, out)?;

        let t3 = flight.transcript.hash();
        let stage = stage.into_application_stage();
        let mut keys = ChannelKeys::new(
            stage.traffic_secret(Side::Client, &t3),
            stage.traffic_secret(Side::Server, &t3),
        );
        if let Some(target) = &config.open {
            append_control(&mut keys.sealer, &ControlMessage::Open { target: target.clone() }, out)?;
        }
        Ok(ExpectWelcome {
            config,
            mode,
            limits,
            keys,
            resumption: stage.resumption_secret(&t3),
            exporter: Exporter::new(&stage, t3),
        })
    }
}
