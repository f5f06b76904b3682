//! Who the container runs as: names and numbers looked up in the image's own /etc/passwd and /etc/group, as
//! containerd and runc do it.

use crate::model::observed::LinuxUser;
use crate::sys::rooted::Rooted;
use std::io;
use std::path::Path;

/// Beyond this setresuid(2) takes numbers for "leave as it is": uid 4294967295 would run as root.
const ID_MAX: u64 = 0x7fff_ffff;
/// A user database of an image; what is beyond is not looked at.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("{0} of the image cannot be read")]
    Read(&'static str, #[source] io::Error),
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("user or group id {0} is out of range (0 to {ID_MAX})")]
    OutOfRange(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// The primary group first.
    pub groups: Vec<u32>,
    pub home: String,
}

impl Identity {
    /// uid, gid and groups, for the line to the monitor.
    pub fn to_text(&self) -> String {
        [self.uid, self.gid].iter().chain(&self.groups).map(u32::to_string).collect::<Vec<_>>().join(" ")
    }
}

/// What [`Identity::to_text`] says; `None` for any other text.
pub fn parse_identity(text: &str) -> Option<LinuxUser> {
    let mut numbers = text.split(' ').map(str::parse);
    let (uid, gid) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(LinuxUser { uid, gid, groups: numbers.collect::<Result<_, _>>().ok()? })
}

/// `user[:group]`; empty is root. A named user must be there; a number need not. Groups that list the user as a member
/// count only where no group was asked for.
pub fn resolve(root: &Rooted, wanted: &str) -> Result<Identity, UserError> {
    let passwd = read(root, "/etc/passwd")?;
    let group = read(root, "/etc/group")?;
    look_up(&passwd, &group, wanted)
}

fn look_up(passwd: &str, group: &str, wanted: &str) -> Result<Identity, UserError> {
    let (user, group_wanted) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = id(user)?;
    let matches = |e: &PasswdEntry| number.map_or(e.name == user, |uid| e.uid == uid);
    let entry = passwd.lines().filter_map(passwd_entry).find(matches);
    let uid = match (number, &entry) {
        (Some(uid), _) => uid,
        (None, Some(entry)) => entry.uid,
        (None, None) => return Err(UserError::NoUser(user.to_owned())),
    };
    let gid = match group_wanted {
        Some(name) => group_id(group, name)?,
        None => entry.as_ref().map_or(0, |e| e.gid),
    };
    let mut groups = vec![gid];
    if let (Some(entry), None) = (&entry, group_wanted) {
        for (gid, members) in group.lines().filter_map(group_entry).map(|g| (g.gid, g.members)) {
            if members.split(',').any(|m| m == entry.name) && !groups.contains(&gid) {
                groups.push(gid);
            }
        }
    }
    let home = entry.map(|e| e.home).filter(|h| !h.is_empty()).unwrap_or("/");
    Ok(Identity { uid, gid, groups, home: home.to_owned() })
}

fn group_id(group: &str, wanted: &str) -> Result<u32, UserError> {
    if let Some(gid) = id(wanted)? {
        return Ok(gid);
    }
    let found = group.lines().filter_map(group_entry).find(|g| g.name == wanted);
    found.map(|g| g.gid).ok_or_else(|| UserError::NoGroup(wanted.to_owned()))
}

/// `None`: a name.
fn id(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let number = text.parse::<u64>().ok().filter(|n| *n <= ID_MAX).and_then(|n| u32::try_from(n).ok());
    number.map(Some).ok_or_else(|| UserError::OutOfRange(text.to_owned()))
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// `name:password:uid:gid:comment:home:shell`; whatever is not that is passed over.
fn passwd_entry(line: &str) -> Option<PasswdEntry<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|n| !n.is_empty())?;
    let uid = id(fields.nth(1)?).ok()??;
    let gid = id(fields.next()?).ok()??;
    Some(PasswdEntry { name, uid, gid, home: fields.nth(1).unwrap_or("") })
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// `name:password:gid:member,member`.
fn group_entry(line: &str) -> Option<GroupEntry<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|n| !n.is_empty())?;
    let gid = id(fields.nth(1)?).ok()??;
    Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
}

/// Images without the file (`FROM scratch`) have no names.
fn read(root: &Rooted, path: &'static str) -> Result<String, UserError> {
    let bytes = root.read(Path::new(path), FILE_BYTES_MAX).map_err(|e| UserError::Read(path, e))?;
    Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbad line\nweb:x:33:34::/srv/web:/bin/false\n\
                          nohome:x:44:44::\nhuge:x:4294967295:0::/:\n";
    const GROUP: &str = "root:x:0:\ndisk:x:6:root,web\nweb:x:34:\nwheel:x:10:root\ndaemon:x:1:root,daemon\n";

    fn identity(wanted: &str) -> Identity {
        look_up(PASSWD, GROUP, wanted).unwrap()
    }

    #[test]
    fn root_has_the_groups_that_list_it_and_its_home() {
        let root = Identity { uid: 0, gid: 0, groups: vec![0, 6, 10, 1], home: "/root".to_owned() };
        assert_eq!([identity(""), identity("0"), identity("root")], [root.clone(), root.clone(), root]);
    }

    #[test]
    fn a_named_user_and_its_number_are_the_same() {
        let web = Identity { uid: 33, gid: 34, groups: vec![34, 6], home: "/srv/web".to_owned() };
        assert_eq!([identity("web"), identity("33")], [web.clone(), web]);
    }

    #[test]
    fn a_number_that_nobody_has_runs_in_group_0_with_the_root_directory_as_home() {
        assert_eq!(identity("1000"), Identity { uid: 1000, gid: 0, groups: vec![0], home: "/".to_owned() });
        assert_eq!(identity("nohome").home, "/");
    }

    #[test]
    fn a_group_that_is_asked_for_is_the_only_one() {
        assert_eq!(identity("web:wheel").groups, [10]);
        assert_eq!((identity("web:2000").gid, identity("web:2000").groups), (2000, vec![2000]));
    }

    #[test]
    fn unknown_names_and_numbers_out_of_range_are_refused() {
        let message = |wanted: &str| look_up(PASSWD, GROUP, wanted).unwrap_err().to_string();
        assert_eq!(message("nobody"), "unable to find user nobody: no matching entries in passwd file");
        assert_eq!(message("web:nobody"), "unable to find group nobody: no matching entries in group file");
        assert_eq!(message("4294967295"), "user or group id 4294967295 is out of range (0 to 2147483647)");
        assert_eq!(
            message("0:99999999999999999999"),
            "user or group id 99999999999999999999 is out of range (0 to 2147483647)"
        );
        assert_eq!(message("huge"), "unable to find user huge: no matching entries in passwd file");
    }

    #[test]
    fn without_the_files_numbers_still_work() {
        assert_eq!(look_up("", "", "5:6").unwrap().groups, [6]);
        assert!(look_up("", "", "root").is_err());
    }
}
