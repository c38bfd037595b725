//! Parameters in a form body or in the query of a URL.

use url::form_urlencoded;

/// Encodes parameters as `application/x-www-form-urlencoded`.
pub fn encoded(parameters: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

/// Appends the parameters to the query of the URL.
pub fn with_query(url: &str, parameters: &[(String, String)]) -> String {
    if parameters.is_empty() {
        return url.into();
    }
    let separator = match url.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{url}{separator}{}", encoded(parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_appended_to_the_query_of_a_url() {
        let pairs = [("a b".to_owned(), "ü&".to_owned())];
        assert_eq!(with_query("https://x/", &pairs), "https://x/?a+b=%C3%BC%26");
        assert_eq!(with_query("https://x/?c=1", &pairs), "https://x/?c=1&a+b=%C3%BC%26");
        assert_eq!(with_query("https://x/?c=1&", &pairs), "https://x/?c=1&a+b=%C3%BC%26");
        assert_eq!(with_query("https://x/?", &[]), "https://x/?");
    }
}
