//! Watches when the certificates of this server expire: the certificates for TLS of SIP, and the certificates of the keys
//! that sign calling numbers (STIR/SHAKEN).

use std::sync::Arc;
use std::time::Duration;

use tandem_causes::Cause;
use tandem_history::problem::Problem;
use tandem_host::clock;
use tandem_sip::transport::OwnCertificate;
use tandem_stir::Stir;

use crate::reporting::ProblemOwner;
use crate::services::Services;

/// Interval between two checks for changed certificates.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
const DAY: u64 = 24 * 3_600;

/// Reports the certificates that have expired or expire soon: at the start, after each change, and each day. Runs until
/// the task is aborted.
pub async fn watch(services: Arc<Services>) {
    let mut reported: Option<(Vec<OwnCertificate>, Arc<Stir>, u64)> = None;
    loop {
        let now = clock::time().as_second().unsigned_abs();
        let (own, stir, today) = (services.sip.own_certificates(), services.stir.load_full(), now / DAY);
        let is_known = reported
            .as_ref()
            .is_some_and(|(before, signing, day)| *before == own && Arc::ptr_eq(signing, &stir) && *day == today);
        if !is_known {
            for certificate in &own {
                let warning = certificate.warning(now).map(|why| format!("{}: {why}", certificate.setting));
                warning.into_iter().for_each(|why| report(&services, Cause::CertificateExpires, why));
            }
            for (url, found) in stir.own_certificates().await {
                match found {
                    Ok(end) => signing_warning(&url, end, now)
                        .into_iter()
                        .for_each(|why| report(&services, Cause::CertificateExpires, why)),
                    Err(fault) => {
                        report(&services, Cause::SigningCertificate, format!("the certificate at {url}: {fault}"));
                    }
                }
            }
            reported = Some((own, stir, today));
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

fn report(services: &Services, cause: Cause, text: String) {
    services.report(ProblemOwner::Server, clock::time(), Problem::warning(cause, text));
}

/// Describes a signing certificate that has expired, or that expires soon. Times are in seconds since 1970.
fn signing_warning(url: &str, end: u64, now: u64) -> Option<String> {
    match end.checked_sub(now) {
        None | Some(0) => Some(format!("the certificate at {url} has expired: far ends reject our signatures")),
        Some(left) if left <= OwnCertificate::WARNING.as_secs() => {
            Some(format!("the certificate at {url} expires in {} days; renew it", left / DAY))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_certificate_warns_from_14_days_before_it_expires() {
        let at = |end| signing_warning("https://h/c.pem", end, 1_000);
        assert_eq!(at(1_000 + 15 * DAY), None);
        assert_eq!(
            at(1_000 + 14 * DAY).as_deref(),
            Some("the certificate at https://h/c.pem expires in 14 days; renew it")
        );
        for end in [1_000, 999] {
            assert!(at(end).is_some_and(|text| text.contains("has expired")), "{end}");
        }
    }
}
