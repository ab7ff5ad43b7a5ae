//! How a report is kept within its limit.

use schemas::{codec, report::Report, seal::Document};

/// What is left out of a report that is too long, in this order.
const CUTS: [fn(&mut Report); 4] = [
    |report| outcomes(report).for_each(|outcome| outcome.log_tail.clear()),
    |report| report.apps.iter_mut().for_each(|app| drop(app.outcomes.drain(..app.outcomes.len().max(1) - 1))),
    |report| report.refusals.clear(),
    |report| outcomes(report).for_each(|outcome| outcome.text = outcome.text.chars().take(80).collect()),
];

/// Leaves out of a report what makes it longer than its readers take: log tails first, then all but the newest
/// outcomes, then refusals, then most of the sentences.
pub(crate) fn fit(mut report: Report) -> Report {
    for cut in CUTS {
        if codec::encode(&report).len() <= Report::MAX_BYTES {
            break;
        }
        cut(&mut report);
    }
    report
}

fn outcomes(report: &mut Report) -> impl Iterator<Item = &mut schemas::report::Outcome> {
    report.apps.iter_mut().flat_map(|app| &mut app.outcomes)
}

#[cfg(test)]
mod tests {
    use schemas::{
        id::{Digest, Revision, Seq},
        report::{AppReport, MAX_LOG_BYTES, MAX_OUTCOMES, Outcome, Verdict},
        seal::Head,
        status::Phase,
        time::UnixTime,
    };

    use super::*;

    #[test]
    fn a_short_report_stays_as_it_is() {
        let report = report(2, MAX_LOG_BYTES, 100);
        assert_eq!(fit(report.clone()), report);
    }

    #[test]
    fn log_tails_go_first() {
        let fitted = fit(report(20, MAX_LOG_BYTES, 100));
        assert!(codec::encode(&fitted).len() <= Report::MAX_BYTES);
        assert!(fitted.apps.iter().all(|app| app.outcomes.len() == MAX_OUTCOMES));
        assert!(fitted.apps[0].outcomes[0].log_tail.is_empty());
    }

    #[test]
    fn the_newest_verdict_of_every_app_stays_whatever_goes() {
        let fitted = fit(report(60, 0, 1_500));
        assert!(codec::encode(&fitted).len() <= Report::MAX_BYTES);
        assert_eq!(fitted.apps.len(), 60);
        assert!(fitted.apps.iter().all(|app| app.outcomes.len() == 1));
        assert!(fitted.apps.iter().all(|app| app.outcomes[0].revision == Revision(MAX_OUTCOMES as u64)));
    }

    fn report(apps: usize, log_bytes: usize, text_bytes: usize) -> Report {
        let outcome = |revision| Outcome {
            revision: Revision(revision),
            release: Digest::of(b"release"),
            version: "1.0.0".into(),
            verdict: Verdict::Failed,
            reason: None,
            text: "x".repeat(text_bytes),
            log_tail: vec!["l".repeat(log_bytes)],
            took_ms: 1,
            fetched_bytes: 1,
            requests: 1,
            built: None,
            at: UnixTime(1),
        };
        let app = |number| AppReport {
            app: format!("app-{number}").parse().unwrap(),
            phase: Phase::Idle,
            revision: Revision(1),
            installed: None,
            previous: None,
            target: None,
            healthy: None,
            outcomes: (1..=MAX_OUTCOMES as u64).map(outcome).collect(),
        };
        Report {
            head: Head::new("home".parse().unwrap(), UnixTime(1)),
            node: "pi-1".parse().unwrap(),
            boot: 1,
            seq: Seq(1),
            root_version: 1,
            clock_unset: false,
            apps: (0..apps).map(app).collect(),
            refusals: Vec::new(),
        }
    }
}
