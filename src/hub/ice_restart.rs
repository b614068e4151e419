//! ICE restarts of WHIP and WHEP clients, who tell new credentials and no new offer (RFC 9725 §4.3.3).
//!
//! **Invariant:** a restart changes ICE and nothing else, and one that is refused leaves the ICE session that stands.

use std::time::Instant;

use str0m::change::SdpOffer;

use super::Hub;
use super::error::Refusal;
use super::io::SessionId;
use super::standing_offer::StandingOffer;
use crate::egress::sink::Transport;
use crate::signal::ServerMessage;
use crate::signal::answer::without_tcp_candidates;
use crate::signal::sdpfrag::FragCredentials;

impl Hub {
    /// Restarts ICE by repeating the client's offer with `credentials`.
    pub(super) fn restart_ice(
        &mut self,
        now: Instant,
        session: SessionId,
        id: &Option<String>,
        credentials: &FragCredentials,
    ) -> Result<(), Refusal> {
        let key = self.sessions.get(session).and_then(|entry| entry.peer);
        let Some((key, peer)) = key.and_then(|key| Some((key, self.peers.get_mut(key)?))) else {
            return Err(Refusal::bad_state("this session has no peer connection"));
        };
        let Some(standing) = peer.standing.as_ref() else {
            return Err(Refusal::bad_state("only a client of WHIP or WHEP restarts ICE without an offer"));
        };
        if !standing.may_restart(now) {
            return Err(Refusal::too_many("ICE was restarted a moment ago: try again in a moment"));
        }
        // What is no ice-char at all could end the engine's reading early (RFC 8839 §5.4).
        let is_fit = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_fit(&credentials.ufrag) || !is_fit(&credentials.password) {
            return Err(Refusal::bad_sdp("a=ice-ufrag and a=ice-pwd consist of letters, digits, `+` and `/`"));
        }
        let offer = standing.offer().restarted(credentials);
        let parsed = SdpOffer::from_sdp_string(offer.sdp()).map_err(Refusal::bad_sdp)?;
        let accepted = peer
            .guard(|rtc| rtc.sdp_api().accept_offer(parsed))
            .map_err(|error| Refusal::internal(error.to_string()))?;
        let answer = offer.answer(&accepted.map_err(Refusal::bad_sdp)?.to_sdp_string());
        // whip-whep 1.2.0 takes one candidate at a restart and fails at more. Who has come by UDP is told of UDP alone.
        let is_by_udp = peer.path().is_some_and(|path| path.transport == Transport::Udp);
        let answer = if is_by_udp { without_tcp_candidates(&answer) } else { answer };
        // The client's candidates are told anew.
        peer.candidates = 0;
        peer.remote_candidates.clear();
        peer.standing = Some(Box::new(StandingOffer::restarted(offer, now)));
        self.route_ufrag(now, key);
        self.peers.mark(key);
        tracing::debug!(session = session.0, "ICE restarts");
        self.signal(session, id.clone(), ServerMessage::Answer { sdp: answer });
        Ok(())
    }
}
