//! A disk that is full: refused or warned of, as configured, and over when there is room again.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{phases, with_journal};
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually};

/// A small file system of its own; unmounted at the end.
pub(crate) struct Disk(TempDir);

impl Disk {
    /// None where mounting is not permitted; the test is skipped then, unless everything is required.
    pub(crate) fn mount() -> Option<Self> {
        Self::mount_of(3)
    }

    /// The same, of so many MiB.
    pub(crate) fn mount_of(size: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}m"), "tmpfs"])
            .arg(directory.path())
            .output();
        let is_mounted = mount.is_ok_and(|output| output.status.success());
        let is_required = std::env::var_os("BURSAR_REQUIRE_PEERS").is_some();
        assert!(is_mounted || !is_required, "mounting is not permitted");
        is_mounted.then_some(Self(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all that is left.
    pub(crate) fn fill(&self) {
        let mut size = 1 << 20;
        let mut file = std::fs::File::create(self.path().join("filler")).unwrap();
        while size > 0 {
            // A short write took a part of it.
            if std::io::Write::write(&mut file, &vec![0; size]).is_err() {
                size /= 2;
            }
        }
    }

    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

async fn rig(disk: &Disk, keys: &str) -> (Upstream, Idp, Proxy) {
    let api = Upstream::start(|_| async { answer(200, "done") }).await;
    let idp = Idp::counting().await;
    let journal = disk.path().join("journal");
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), &journal);
    let yaml = yaml.replacen('}', &format!(", {keys}}}"), 1);
    let proxy = Proxy::start(&yaml).await;
    (api, idp, proxy)
}

#[tokio::test]
async fn a_full_disk_refuses_what_moves_money_and_nothing_else_until_there_is_room() {
    let Some(disk) = Disk::mount() else {
        return;
    };
    let (api, _idp, proxy) = rig(&disk, "max_size: 1MiB").await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("POST", "/pay", "x").await.status, 200);
    disk.fill();
    // What was allocated before may still take some.
    eventually(|| async {
        let mut caller = Caller::connect(proxy.listen).await;
        caller.send("POST", "/pay", "x").await.status == 503
    })
    .await;
    let before = api.count();
    let mut caller = Caller::connect(proxy.listen).await;
    let refused = caller.send("POST", "/pay", "x").await;
    let problem = refused.problem();
    assert_eq!(
        (
            &problem["status"],
            &problem["reason"],
            &problem["request_sent"]
        ),
        (&503.into(), &"journal_unavailable".into(), &"no".into())
    );
    assert_eq!(refused.all("retry-after"), ["5"]);
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("GET", "/read", "").await.status, 200);
    assert_eq!(api.count(), before + 1);
    disk.make_room();
    eventually(|| async {
        let mut caller = Caller::connect(proxy.listen).await;
        caller.send("POST", "/pay", "x").await.status == 200
    })
    .await;
    // What was answered while nothing could be written is written by now, or soon.
    let journal = disk.path().join("journal");
    eventually(|| async { phases(&journal).await.is_empty() }).await;
}

#[tokio::test]
async fn a_full_disk_is_only_warned_of_where_that_is_configured() {
    let Some(disk) = Disk::mount() else {
        return;
    };
    let (api, _idp, proxy) = rig(&disk, "on_failure: warn").await;
    disk.fill();
    let failed = [("result", "failed")];
    let mut sent = 0;
    while proxy.metric("bursar_journal_writes_total", &failed).await == 0.0 {
        assert!(sent < 10_000, "the disk is not full");
        let mut caller = Caller::connect(proxy.listen).await;
        assert_eq!(caller.send("POST", "/pay", "x").await.status, 200);
        sent += 1;
    }
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("POST", "/pay", "x").await.status, 200);
    assert_eq!(api.count(), sent + 1);
}
