//! What an answer gives away about an API that is not as its operator thinks: statuses that are about the URL and not
//! about the client, and a 200 whose body says no. None of it is a verdict.

/// The bytes of a body that are looked at.
pub(super) const LOOKED_AT: usize = 256;

/// What a status usually means that denies, but says nothing about the client.
pub(super) fn meaning(status: u16) -> Option<&'static str> {
    Some(match status {
        201..=299 => "which refuses: 200 alone lets anybody in",
        300..=399 => {
            "a redirect, which is not followed: most often the URL has a slash too many or too few at its end, or wants \
             https://"
        }
        400 | 415 | 422 => {
            "as for a request that it does not understand: most often it expects other fields, or a form and no JSON"
        }
        404 | 410 => "as for a path that it does not have; for clients that it does not know, 403 says so",
        405 => "as for a path that takes no POST: most often the path is another's",
        _ => return None,
    })
}

/// What the beginning of a 200's body says, if that is plainly no yes.
pub(super) fn says_otherwise(body: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(&body[..body.len().min(LOOKED_AT)]).to_ascii_lowercase();
    let text = text.trim();
    if ["<!doctype html", "<html", "<head", "<body"].iter().any(|start| text.starts_with(start)) {
        return Some("an HTML page came with it");
    }
    let no = "its body says no";
    let word = text.trim_matches(['"', '.', '!']);
    if ["false", "no", "deny", "denied", "forbidden", "unauthorized", "not authorized", "access denied"]
        .contains(&word)
    {
        return Some(no);
    }
    if !text.starts_with('{') {
        return None;
    }
    let packed = without_lists(text);
    let denies = |rest: &str| {
        let value = rest.strip_prefix('"').unwrap_or(rest);
        ["false", "deny", "denied", "ignore", "forbidden", "unauthorized"].iter().any(|no| {
            value.strip_prefix(no).is_some_and(|end| end.is_empty() || end.starts_with(['"', ',', '}']))
        })
    };
    let keys = [
        "result",
        "allow",
        "allowed",
        "ok",
        "access",
        "authorized",
        "authenticated",
        "success",
        "permission",
    ];
    let says_no = |key: &&str| {
        packed.match_indices(&format!("\"{key}\":")).any(|(at, found)| denies(&packed[at + found.len()..]))
    };
    keys.iter().any(says_no).then_some(no)
}

/// A text without what is in lists: that is said of topics, and rules that come with a yes end by a no. Without spaces, too.
fn without_lists(text: &str) -> String {
    let mut depth = 0_usize;
    let outside = |c: &char| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => return depth == 0 && !c.is_whitespace(),
        }
        false
    };
    text.chars().filter(outside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_no_is_seen_and_everything_else_is_not() {
        for body in [
            "deny",
            " False\n",
            "\"no\"",
            "<!DOCTYPE html><p>",
            "{\"result\": \"deny\"}",
            "{\"Ok\":false,\"error\":\"x\"}",
            "{ \"allow\" :\n false }",
            "{\"user\":\"a\",\"result\":\"ignore\"",
            "{\"acl\":[],\"is_superuser\":false,\"result\":\"deny\"}",
            "{\"errors\":[\"bad password\", [1]],\"success\":false}",
        ] {
            assert!(says_otherwise(body.as_bytes()).is_some(), "{body}");
        }
        for body in [
            "",
            "ok",
            "nobody",
            "true",
            "{}",
            "{\"result\":\"allow\"}",
            "{\"result\": \"allow\", \"acl\": [{\"permission\": \"deny\", \"action\": \"all\", \"topic\": \"#\"}]}",
            "{\"result\":\"falsehood\"}",
            "{\"is_superuser\":false}",
            "{\"disallow\":false}",
            "[false]",
            "\u{fffd}",
        ] {
            assert_eq!(says_otherwise(body.as_bytes()), None, "{body}");
        }
        let late = format!("{{\"a\":\"{}\",\"result\":\"deny\"}}", "x".repeat(LOOKED_AT));
        assert_eq!(says_otherwise(late.as_bytes()), None);
    }

    #[test]
    fn only_what_is_not_about_the_client_has_a_meaning() {
        for status in [200, 401, 403, 429, 500] {
            assert_eq!(meaning(status), None, "{status}");
        }
        for status in [204, 301, 307, 308, 400, 404, 405, 415, 422] {
            assert!(meaning(status).is_some(), "{status}");
        }
    }
}
