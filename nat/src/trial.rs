//! Packets tried out: what would become of them, without a trace.
//!
//! Between [`Nat::begin_trial`] and [`Nat::end_trial`] the engine is a twin of itself. It answers
//! as ever, to the port it would draw; then it is as it was, in every bit that can be observed or
//! will ever matter. What grows with the number of sessions or ports is not copied for that, see
//! `cells`; the rest is 60 KB, with the ports that were adopted after a restart on top.

use std::sync::Arc;

use crate::engine::Nat;
use crate::lend::Lending;

impl Nat {
    /// Begins to try things out; what happens from now on will be undone. On a trial already, it
    /// changes nothing.
    ///
    /// Packets are for trying; sessions may be listed too. What expires or is restored on a trial
    /// costs memory for each of them.
    pub fn begin_trial(&mut self) {
        if self.trial_of.is_none() {
            let twin = self.lay_aside();
            let original = std::mem::replace(self, twin);
            self.trial_of = Some(Box::new(original));
        }
    }

    /// Undoes all that happened since [`Nat::begin_trial`].
    pub fn end_trial(&mut self) {
        if let Some(original) = self.trial_of.take() {
            let twin = std::mem::replace(self, *original);
            self.take_back(twin);
        }
    }

    /// Returns whether something is being tried out.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.trial_of.is_some()
    }

    /// Makes the twin. All fields are named, so that none that is added later is forgotten.
    fn lay_aside(&mut self) -> Self {
        let Self {
            config,
            sessions,
            mappings,
            peers,
            hosts,
            links,
            fragments,
            ids,
            alg,
            counters,
            created_before,
            events,
            lending: _,
            own_ports,
            publishes,
            choice_key,
            strangers,
            knocks,
            adopted,
            adoptions,
            observer: _,
            trial_of: _,
        } = self;
        Self {
            config: config.clone(),
            sessions: sessions.lay_aside(),
            mappings: mappings.lay_aside(),
            peers: peers.as_mut().map(|peers| peers.lay_aside()),
            hosts: hosts.lay_aside(),
            links: links.lay_aside(),
            fragments: fragments.lay_aside(),
            ids: ids.clone(),
            alg: alg.as_mut().map(|alg| Box::new(alg.lay_aside())),
            counters: counters.clone(),
            created_before: *created_before,
            events: events.twin(),
            // Nobody carries what is only tried.
            lending: Lending::OFF,
            own_ports: *own_ports,
            publishes: Arc::clone(publishes),
            choice_key: *choice_key,
            strangers: strangers.clone(),
            knocks: knocks.lay_aside(),
            adopted: adopted.clone(),
            adoptions: adoptions.clone(),
            observer: None,
            trial_of: None,
        }
    }

    fn take_back(&mut self, twin: Self) {
        self.sessions.take_back(twin.sessions);
        self.mappings.take_back(twin.mappings);
        if let (Some(peers), Some(twin)) = (&mut self.peers, twin.peers) {
            peers.take_back(twin);
        }
        self.hosts.take_back(twin.hosts);
        self.links.take_back(twin.links);
        self.fragments.take_back(twin.fragments);
        self.knocks.take_back(twin.knocks);
        if let (Some(alg), Some(twin)) = (&mut self.alg, twin.alg) {
            alg.take_back(*twin);
        }
    }

    /// Has this engine, on trial, adopt and give back ports without the others' knowing.
    pub(crate) fn part_adopted(&mut self) {
        if let Some(adopted) = &self.adopted {
            let own = Arc::new(adopted.copy());
            self.mappings.heed(Arc::clone(&own), self.config.slice);
            self.adopted = Some(own);
        }
    }
}
