//! Local users are rechecked by the files that were just re-read.

use std::fs;

use super::{assert_all_stay, leaves, on_every_way_to_every_broker, refuse, reload};
use crate::support::scene::PASSWD_2_0_11;
use crate::support::{PASSWORD, PATIENCE, fence, friendly_api, hash_in};

#[test]
fn local_users_are_judged_by_the_files_as_just_re_read() {
    on_every_way_to_every_broker(|version, way| {
        let hash = |name: &str| hash_in(PASSWD_2_0_11, name);
        let (good, other) = (hash("sha512"), hash("with space"));
        let api = friendly_api();
        let before = ["changed", "unchanged", "rehashed", "removed-good", "removed-bad"]
            .map(|name| format!("{name}:{good}\n"))
            .concat();
        let broker =
            way.to(version, &api).file("passwords", before).option("password_file", "passwords").start();
        let mut log_in = |name: &str| way.login(name, PASSWORD).accepted(way.port(&broker));
        let mut changed = log_in("changed");
        let mut stay = ["unchanged", "rehashed", "removed-good", "new-good"].map(&mut log_in);
        let mut removed_bad = log_in("removed-bad");
        let mut new_bad = log_in("new-bad");
        assert_eq!(api.logins().len(), 2, "two of them are not local yet");
        let after = format!(
            "unchanged:{good}\nchanged:{other}\nrehashed:{}\nnew-good:{good}\nnew-bad:{other}\n",
            hash("pbkdf2")
        );
        refuse(&api, &["removed-bad", "unchanged", "rehashed", "new-good"], 403);
        api.forget_requests();
        fs::write(broker.folder().join("passwords"), after).unwrap();
        reload(&broker);
        assert!(changed.wait_until_closed(PATIENCE), "{way:?}: the password is another");
        assert!(
            new_bad.wait_until_closed(PATIENCE),
            "{way:?}: it is a local user now, with another password"
        );
        assert!(leaves(&broker, way, &mut removed_bad), "{way:?}: the API refuses it");
        assert_all_stay(&mut stay, &format!("{way:?}"));
        let asked = api.logins();
        for name in ["unchanged", "changed", "rehashed", "new-good", "new-bad"] {
            assert!(!asked.iter().any(|request| request.field("username") == name), "{name} is local");
        }
        reload(&broker);
        assert_all_stay(&mut stay, &format!("{way:?}, the second time"));
    });
}

#[test]
fn a_file_that_cannot_be_read_changes_nothing() {
    on_every_way_to_every_broker(|version, way| {
        let api = friendly_api();
        let passwords = PASSWD_2_0_11;
        let broker =
            way.to(version, &api).file("passwords", passwords).option("password_file", "passwords").start();
        let mut clients = [
            way.login("sha512", PASSWORD).accepted(way.port(&broker)),
            way.login("alice", "secret").accepted(way.port(&broker)),
        ];
        fs::write(broker.folder().join("passwords"), "sha512\n").unwrap();
        reload(&broker);
        broker.wait_for_log("passwords", PATIENCE);
        fs::remove_file(broker.folder().join("passwords")).unwrap();
        reload(&broker);
        fence::later_logins(broker.port(), &api);
        assert_all_stay(&mut clients, &format!("{way:?}"));
        way.login("sha512", PASSWORD).accepted(way.port(&broker));
        way.login("sha512", "wrong").refused(way.port(&broker));
    });
}
