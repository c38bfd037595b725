//! Explains why a signature is valid or not. The explanation has the signed string. It also lists the differences
//! between the request that was sent and the request that the application saw.
//!
//! A validator rebuilds the URL from the received request. Proxies, web frameworks and different rules about ports can
//! change this URL. So the search tries each of the usual differences, alone and in pairs, until the signature matches.

use serde::Serialize;
use tandem_console::signature::compare;

use super::sign;

/// The parties and the places in the names of geographic parameters, such as `FromCity`. These parameters are sent with
/// empty values, and some web frameworks drop parameters with empty values.
const PARTIES: [&str; 4] = ["From", "To", "Caller", "Called"];
const PLACES: [&str; 4] = ["City", "State", "Zip", "Country"];

/// A request as the validating application saw the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ReceivedRequest {
    /// The URL that the application rebuilt from the request.
    pub url: String,
    /// The parameters of the form. Empty for a GET, a JSON body or a WebSocket.
    pub parameters: Vec<(String, String)>,
}

/// The result of the search.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Explanation {
    /// Whether the first key, with exactly this URL and these parameters, gives the signature.
    pub valid: bool,
    /// The signed string: the URL, then each parameter's name and value, sorted by name.
    pub signed: String,
    /// The signature of `signed` with the first key.
    pub expected: String,
    /// The name of the key that made the signature. `None` if the search did not find the key.
    pub key: Option<String>,
    /// The signed URL, if this URL differs from the URL that the application saw.
    pub url: Option<String>,
    /// Descriptions of the differences. Empty if there are no differences, or if the search found nothing.
    pub differences: Vec<String>,
    /// Advice for the operator of the application.
    pub advice: &'static str,
}

/// Explains `signature` with `keys`. Each element of `keys` is a pair of a name and a key. The first key is the correct
/// key.
pub(crate) fn explain(keys: &[(String, String)], received: &ReceivedRequest, signature: &str) -> Explanation {
    let given = signature.trim();
    let mut explanation = Explanation {
        valid: false,
        signed: signed(received),
        expected: keys.first().map(|(_, key)| sign(key, received)).unwrap_or_default(),
        key: None,
        url: None,
        differences: Vec::new(),
        advice: "None of the usual differences explains it: compare the string that is signed here with what your application \
                 signs, octet by octet, and make sure that the key is this account's auth token.",
    };
    let fits = |received: &ReceivedRequest| keys.iter().position(|(_, key)| sign(key, received) == given);
    let mut candidates = vec![(received.clone(), Vec::new())];
    let singles: Vec<(ReceivedRequest, Vec<&'static str>)> =
        VARIANTS.iter().flat_map(|variant| variants(variant, received)).collect();
    candidates.extend(singles.iter().cloned());
    for (single, differences) in &singles {
        for variant in VARIANTS.iter().filter(|variant| !differences.contains(&variant.difference)) {
            let both = variants(variant, single);
            candidates
                .extend(both.into_iter().map(|(received, more)| (received, [&differences[..], &more[..]].concat())));
        }
    }
    for (candidate, differences) in candidates {
        let Some(key) = fits(&candidate) else { continue };
        explanation.valid = differences.is_empty() && key == 0;
        explanation.key = keys.get(key).map(|(name, _)| name.clone());
        explanation.url = (candidate.url != received.url).then_some(candidate.url);
        explanation.advice = match (explanation.valid, key) {
            (true, _) => {
                "The signature is valid. If your validator disagrees, it signs another string or uses another key."
            }
            (false, 0) => "Give your validator the URL and the parameters as they were sent (see differences).",
            (false, _) => "The signature was made with another key: use the auth token of the call's account.",
        };
        explanation.differences = differences.into_iter().map(str::to_owned).collect();
        break;
    }
    explanation
}

/// Like [`explain`], but also tries the URLs in `sent`, which are the URLs of the call's signed requests. So this
/// function also finds a signed URL on a different host. The usual differences do not include the host.
pub(crate) fn explain_by(
    keys: &[(String, String)],
    received: &ReceivedRequest,
    signature: &str,
    sent: &[String],
) -> Explanation {
    let mut explanation = explain(keys, received, signature);
    if explanation.key.is_some() {
        return explanation;
    }
    for url in sent {
        let explained = explain(keys, &with_url(received, url.clone()), signature);
        if explained.key.is_none() {
            continue;
        }
        explanation.differences = [compare(url, &received.url), explained.differences].concat();
        explanation.url = Some(explained.url.unwrap_or_else(|| url.clone()));
        explanation.key = explained.key;
        explanation.advice = "The application checks a different URL from the one that was signed. Give its validator the signed \
                              URL, or configure the URL that it checks and map it to the signed URL with [[origins]].";
        break;
    }
    explanation
}

/// Builds the string to sign: the URL, then the sorted parameters without duplicates.
fn signed(received: &ReceivedRequest) -> String {
    let mut pairs: Vec<_> = received.parameters.iter().collect();
    pairs.sort();
    pairs.dedup();
    pairs.iter().fold(received.url.clone(), |text, (name, value)| text + name + value)
}

fn sign(key: &str, received: &ReceivedRequest) -> String {
    sign::signature(key, &received.url, received.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// A usual difference between the request that was sent and the request that the application sees.
struct Variant {
    difference: &'static str,
    /// Returns the requests that this server may have sent, on the assumption that this difference exists. Empty if the
    /// difference cannot apply.
    sent: fn(&ReceivedRequest) -> Vec<ReceivedRequest>,
}

fn variants(variant: &Variant, received: &ReceivedRequest) -> Vec<(ReceivedRequest, Vec<&'static str>)> {
    let sent = (variant.sent)(received).into_iter().filter(|sent| sent != received);
    sent.map(|sent| (sent, vec![variant.difference])).collect()
}

const VARIANTS: [Variant; 12] = [
    Variant {
        difference: "scheme: the URL was signed with https instead of http, or the reverse (a proxy terminates TLS)",
        sent: |received| {
            let pairs = [("https://", "http://"), ("http://", "https://"), ("wss://", "ws://"), ("ws://", "wss://")];
            let http = [("wss://", "https://"), ("https://", "wss://"), ("ws://", "http://"), ("http://", "ws://")];
            let swapped = pairs
                .into_iter()
                .chain(http)
                .filter_map(|(from, to)| Some(format!("{to}{}", received.url.strip_prefix(from)?)));
            swapped.map(|url| with_url(received, url)).collect()
        },
    },
    Variant {
        difference: "port: the URL was signed without the port that you see",
        sent: |received| host(received, |host| host.rsplit_once(':').map(|(name, _)| name.to_owned())),
    },
    Variant {
        difference: "port: the URL was signed with :443",
        sent: |received| host(received, |host| (!host.contains(':')).then(|| format!("{host}:443"))),
    },
    Variant {
        difference: "port: the URL was signed with :80",
        sent: |received| host(received, |host| (!host.contains(':')).then(|| format!("{host}:80"))),
    },
    Variant {
        difference: "port: the URL was signed with :8080",
        sent: |received| host(received, |host| (!host.contains(':')).then(|| format!("{host}:8080"))),
    },
    Variant {
        difference: "trailing slash: only one of the two URLs has it",
        sent: |received| {
            let (path, query) = match received.url.split_once('?') {
                Some((path, query)) => (path, format!("?{query}")),
                None => (received.url.as_str(), String::new()),
            };
            let url = match path.strip_suffix('/') {
                Some(path) => format!("{path}{query}"),
                None => format!("{path}/{query}"),
            };
            vec![with_url(received, url)]
        },
    },
    Variant {
        difference: "query: its parameters were signed in another order",
        sent: |received| {
            let Some((path, query)) = received.url.split_once('?') else { return Vec::new() };
            let pairs: Vec<&str> = query.split('&').collect();
            orders(&pairs).into_iter().map(|order| with_url(received, format!("{path}?{}", order.join("&")))).collect()
        },
    },
    Variant {
        difference: "query: the URL was signed without it",
        sent: |received| {
            received.url.split_once('?').map(|(path, _)| with_url(received, path.to_owned())).into_iter().collect()
        },
    },
    Variant {
        difference: "query: its characters were encoded differently when it was signed",
        sent: |received| {
            let decoded = percent_encoding::percent_decode_str(&received.url).decode_utf8_lossy().into_owned();
            [received.url.replace("%20", "+"), received.url.replace('+', "%20"), decoded]
                .map(|url| with_url(received, url))
                .into()
        },
    },
    Variant {
        difference: "fragment: the part after # is never signed",
        sent: |received| {
            received.url.split_once('#').map(|(url, _)| with_url(received, url.to_owned())).into_iter().collect()
        },
    },
    Variant {
        difference: "body: its parameters were not signed (a GET, a JSON body, a WebSocket), or are in the URL",
        sent: |received| vec![ReceivedRequest { url: received.url.clone(), parameters: Vec::new() }],
    },
    Variant {
        difference: "parameters: those with empty values were signed too, and your framework drops them",
        sent: |received| {
            let mut parameters = received.parameters.clone();
            for name in PARTIES.iter().flat_map(|party| PLACES.map(|place| format!("{party}{place}"))) {
                if !parameters.iter().any(|(known, _)| *known == name) {
                    parameters.push((name, String::new()));
                }
            }
            let without_finish = ReceivedRequest { url: received.url.clone(), parameters: parameters.clone() };
            let mut gathered = without_finish.clone();
            for name in ["Digits", "FinishedOnKey"] {
                if !parameters.iter().any(|(known, _)| known == name) {
                    gathered.parameters.push((name.to_owned(), String::new()));
                }
            }
            vec![without_finish, gathered]
        },
    },
];

fn with_url(received: &ReceivedRequest, url: String) -> ReceivedRequest {
    ReceivedRequest { url, parameters: received.parameters.clone() }
}

/// Returns the request with another host and port in the URL. `change` computes the new host and port from the old
/// ones. Empty if `change` returns `None`.
fn host(received: &ReceivedRequest, change: impl Fn(&str) -> Option<String>) -> Vec<ReceivedRequest> {
    let Some((scheme, rest)) = received.url.split_once("://") else { return Vec::new() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    change(host).map(|host| with_url(received, format!("{scheme}://{host}{path}"))).into_iter().collect()
}

/// All permutations of up to 4 pairs. If there are more pairs, the result has only the sorted order and the reverse
/// order.
fn orders<'a>(pairs: &[&'a str]) -> Vec<Vec<&'a str>> {
    if pairs.len() > 4 {
        let mut sorted = pairs.to_vec();
        sorted.sort_unstable();
        return vec![sorted, pairs.iter().rev().copied().collect()];
    }
    let mut all = vec![Vec::new()];
    for pair in pairs {
        let longer = |order: Vec<&'a str>| {
            (0..=order.len()).map(move |place| {
                let mut order = order.clone();
                order.insert(place, *pair);
                order
            })
        };
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<(String, String)> {
        [("acme", "12345"), ("other", "67890")].map(|(name, key)| (name.to_owned(), key.to_owned())).into()
    }

    fn received(url: &str, parameters: &[(&str, &str)]) -> ReceivedRequest {
        let pairs = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ReceivedRequest { url: url.into(), parameters: pairs.collect() }
    }

    const FORM: [(&str, &str); 2] = [("To", "+1"), ("From", "+2")];

    /// Signs a request to the URL `sent`. Then explains the signature for an application that sees the URL `url`.
    /// Returns whether the signature is valid, and the first word of each difference.
    fn explained(sent: &str, url: &str) -> (bool, Vec<String>) {
        let signature = sign("12345", &received(sent, &FORM));
        let explanation = explain(&keys(), &received(url, &FORM), &signature);
        let heads = explanation.differences.iter().map(|text| text.split(':').next().unwrap_or_default().to_owned());
        (explanation.valid, heads.collect())
    }

    #[test]
    fn a_matching_signature_is_reported_as_valid() {
        let explanation =
            explain(&keys(), &received("http://h/voice", &FORM), &sign("12345", &received("http://h/voice", &FORM)));
        assert!(explanation.valid && explanation.differences.is_empty());
        assert_eq!(explanation.signed, "http://h/voiceFrom+2To+1");
        assert_eq!(explanation.key.as_deref(), Some("acme"));
        assert_eq!(explanation.url, None);
    }

    #[test]
    fn usual_differences_between_the_signed_and_the_received_url_are_named() {
        for (sent, url, differences) in [
            ("https://h/voice", "http://h/voice", vec!["scheme"]),
            ("https://h/voice", "https://h:8443/voice", vec!["port"]),
            ("https://h:443/voice", "https://h/voice", vec!["port"]),
            ("http://h/voice", "http://h/voice/", vec!["trailing slash"]),
            ("http://h/voice?b=1&a=2", "http://h/voice?a=2&b=1", vec!["query"]),
            ("http://h/voice?a=1+2", "http://h/voice?a=1%202", vec!["query"]),
            ("http://h/voice", "http://h/voice?x=1", vec!["query"]),
            ("http://h/voice", "http://h/voice#rc=2", vec!["fragment"]),
            ("wss://h/media", "https://h/media", vec!["scheme"]),
            ("https://h/voice", "http://h:5000/voice", vec!["scheme", "port"]),
            ("https://h/voice/?b=1&a=2", "https://h/voice?a=2&b=1", vec!["trailing slash", "query"]),
        ] {
            let (valid, explained) = explained(sent, url);
            let mut explained: Vec<&str> = explained.iter().map(String::as_str).collect();
            let mut expected = differences;
            explained.sort_unstable();
            expected.sort_unstable();
            assert_eq!((valid, explained), (false, expected), "{sent} seen as {url}");
        }
    }

    #[test]
    fn another_accounts_token_and_missing_parameters_are_named() {
        let request = received("http://h/voice", &FORM);
        let explanation = explain(&keys(), &request, &sign("67890", &request));
        assert_eq!((explanation.valid, explanation.key.as_deref()), (false, Some("other")));
        let mut sent = request.clone();
        sent.parameters.extend(PARTIES.iter().flat_map(|p| PLACES.map(|place| (format!("{p}{place}"), String::new()))));
        let explanation = explain(&keys(), &request, &sign("12345", &sent));
        assert!(explanation.differences[0].starts_with("parameters"));
        let explanation = explain(&keys(), &request, &sign("12345", &received("http://h/voice", &[])));
        assert!(explanation.differences[0].starts_with("body"));
    }

    #[test]
    fn a_different_host_is_found_with_the_urls_that_were_sent() {
        let (sent, url) = ("http://127.0.0.1:5000/voice", "https://abc.example/voice");
        let signature = sign("12345", &received(sent, &FORM));
        assert_eq!(explain(&keys(), &received(url, &FORM), &signature).key, None);
        let explanation = explain_by(&keys(), &received(url, &FORM), &signature, &["http://x/".into(), sent.into()]);
        assert_eq!((explanation.key.as_deref(), explanation.url.as_deref()), (Some("acme"), Some(sent)));
        let heads: Vec<_> = explanation.differences.iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(heads, ["scheme", "host", "port"]);
        assert_eq!(compare(sent, sent), Vec::<String>::new());
        assert_eq!(compare(sent, "abc.example/voice").len(), 1);
        assert_eq!(compare("http://h/a?x=1", "http://h/a/?x=2").len(), 2);
    }

    #[test]
    fn an_unexplained_signature_is_shown_with_the_expected_signature_and_general_advice() {
        let explanation = explain(&keys(), &received("http://h/voice", &FORM), "bm9uc2Vuc2U=");
        assert!(!explanation.valid && explanation.key.is_none() && explanation.differences.is_empty());
        assert!(!explanation.expected.is_empty() && explanation.advice.starts_with("None"));
        assert!(!explain(&[], &received("", &[]), "").valid);
    }
}
