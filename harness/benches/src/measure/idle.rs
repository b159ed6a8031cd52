//! Sessions and flows that do nothing: what one costs, and whether it is given back.

use std::io;
use std::time::Duration;

use harness::expect::within;

use super::{CLOSING, PATIENCE, Run, Scene};
use crate::case::{HowMany, Load};
use crate::generator::open::{Opened, open};
use crate::generator::{Shared, datagrams};
use crate::usage::{Usage, descriptor_limit};
use crate::wire::Role;

impl Run<'_> {
    /// Opens idle sessions, looks, closes them, and looks again.
    pub(super) fn idle(&mut self, scene: &Scene<'_>, how_many: HowMany) -> io::Result<()> {
        let before = self.target.counts()?;
        // The first sessions bring in code and an allocator's first pages, which are not a session's own.
        let fresh = self.gateway_usage();
        drop(scene.network.run(|| open(&scene.route, Role::Echo, FIRST_SESSIONS, PATIENCE))?);
        self.wait_until_closed(&fresh);
        let start = self.gateway_usage();
        let wanted = match how_many {
            HowMany::Some | HowMany::Flows => scene.pace.idle_sessions,
            HowMany::DescriptorLimit => {
                let limit = usize::try_from(descriptor_limit()).unwrap_or(usize::MAX);
                // Two descriptors a session, and some for the gateway itself.
                (limit.saturating_sub(SPARE) / 2).min(scene.pace.most_sessions)
            }
        };
        let opened = scene.network.run(|| open(&scene.route, Role::Echo, wanted, PATIENCE))?;
        let full = self.gateway_usage();
        self.judge_opened(&opened, how_many);
        let sessions = opened.sessions.len();
        drop(opened);
        self.wait_until_closed(&start);
        // An allocator may give memory back a moment later, or never.
        let most = start.rss_kib + full.rss_kib.saturating_sub(start.rss_kib) / 4;
        within(GIVING_BACK, || (self.gateway_usage().rss_kib <= most).then_some(()));
        let after = self.gateway_usage();
        let measured = &mut self.measured;
        measured.sessions = sessions as u64;
        measured.operations = sessions as f64;
        (measured.rss_before_kib, measured.rss_kib, measured.rss_after_kib) =
            (start.rss_kib, full.rss_kib, after.rss_kib);
        (measured.descriptors_before, measured.descriptors, measured.descriptors_after) =
            (start.descriptors, full.descriptors, after.descriptors);
        // A gateway that has ended uses nothing, which is no figure.
        if full.rss_kib > 0 && sessions > 0 {
            measured.rate = Some(full.rss_kib.saturating_sub(start.rss_kib) as f64 / sessions as f64);
        }
        let cpu = full.cpu_since(&start);
        (measured.gateway_cpu_s, measured.gateway_user_cpu_s) = (cpu.seconds, cpu.user);
        let counts = self.target.counts()?;
        self.measured.wrong_sources = counts.strangers - before.strangers;
        if self.measured.wrong_sources > 0 {
            self.fault(&format!("wrong sources: the target {}", counts.stranger.unwrap_or_default()));
        }
        Ok(())
    }

    /// Opens flows of datagrams that then do nothing, and looks.
    pub(super) fn idle_flows(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        let before = self.target.counts()?;
        let open = |flows| scene.network.run(|| datagrams::open(&scene.route, flows));
        // As with sessions: the first ones bring in what is not a flow's own.
        let first = open(FIRST_SESSIONS)?;
        let start = self.gateway_usage();
        let opened = open(scene.pace.idle_flows)?;
        let full = self.gateway_usage();
        let flows = opened.flows.len();
        for opened in [&first, &opened] {
            if opened.silent > 0 {
                self.fault(&format!("{} flows were not answered", opened.silent));
            }
        }
        let measured = &mut self.measured;
        measured.sessions = flows as u64;
        measured.operations = flows as f64;
        (measured.rss_before_kib, measured.rss_kib) = (start.rss_kib, full.rss_kib);
        (measured.descriptors_before, measured.descriptors) = (start.descriptors, full.descriptors);
        if full.rss_kib > 0 && flows > 0 {
            measured.rate = Some(full.rss_kib.saturating_sub(start.rss_kib) as f64 / flows as f64);
        }
        let cpu = full.cpu_since(&start);
        (measured.gateway_cpu_s, measured.gateway_user_cpu_s) = (cpu.seconds, cpu.user);
        self.check(Load::Idle { how_many: HowMany::Flows }, &before, &Shared::default(), &Shared::default())
    }

    /// Waits until target and gateway have let go of all sessions; the gateway may never.
    fn wait_until_closed(&mut self, start: &Usage) {
        within(CLOSING, || {
            // All sessions are over for the target when it has closed as many as it accepted.
            let counts = self.target.counts().ok()?;
            let open = counts.accepted - counts.closed;
            (open == 0 && self.gateway_usage().descriptors <= start.descriptors).then_some(())
        });
    }

    /// At the limit it is no fault that not all sessions can be had.
    fn judge_opened(&mut self, opened: &Opened, how_many: HowMany) {
        match how_many {
            HowMany::Some | HowMany::Flows => {
                if let Some(fault) = opened.fault() {
                    self.fault(&fault);
                }
            }
            HowMany::DescriptorLimit => self.measured.lost = (opened.refused + opened.silent) as u64,
        }
    }
}

const FIRST_SESSIONS: usize = 64;
/// How long a gateway may take to give memory back.
const GIVING_BACK: Duration = Duration::from_secs(2);
/// Descriptors that gateways use for themselves.
const SPARE: usize = 200;
