//! File systems that a test mounts, and that go with it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::live::Scratch;

/// A mounted file system, unmounted on drop.
pub struct Mount {
    scratch: Scratch,
    bindfs: Option<Child>,
}

impl Mount {
    /// A file system that can be made to hang.
    pub fn bindfs() -> Self {
        require("/dev/fuse", "bindfs");
        let scratch = Scratch::new();
        for name in ["behind", "disk"] {
            std::fs::create_dir(scratch.path().join(name)).unwrap();
        }
        // Without time-outs the kernel answers nothing from its memory.
        let mut command = Command::new("bindfs");
        command.args(["-f", "-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0"]);
        command.args([scratch.path().join("behind"), scratch.path().join("disk")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.expect("bindfs is missing: apt-get install bindfs");
        let mount = Self { scratch, bindfs: Some(child) };
        mount.wait_until_mounted();
        mount
    }

    /// A small file system in memory.
    pub fn tmpfs(size: &str) -> Self {
        require("/proc/self/mountinfo", "mount");
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join("disk")).unwrap();
        let mount = Self { scratch, bindfs: None };
        mount.mount_tmpfs(size);
        mount
    }

    pub fn mount_tmpfs(&self, size: &str) {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", self.path().to_str().unwrap()]);
        self.wait_until_mounted();
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("disk")
    }

    /// From now on each call to it hangs.
    pub fn hang(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It answers again.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    pub fn unmount(&self) {
        // Files that are open keep it from being unmounted otherwise.
        run("umount", &["--lazy", self.path().to_str().unwrap()]);
    }

    /// `ro` or `rw`.
    pub fn remount(&self, mode: &str) {
        run("mount", &["-o", &format!("remount,{mode}"), self.path().to_str().unwrap()]);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.bindfs.as_ref().expect("only FUSE can hang").id();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }

    fn wait_until_mounted(&self) {
        let since = Instant::now();
        while !is_mounted(&self.path()) {
            assert!(since.elapsed() < Duration::from_secs(15), "{} is not mounted", self.path().display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.bindfs.is_some() {
            self.go_on();
        }
        // It may be unmounted already.
        let path = self.path();
        while is_mounted(&path) && Command::new("umount").arg("--lazy").arg(&path).status().is_ok_and(|it| it.success())
        {
        }
        if let Some(mut child) = self.bindfs.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    // The table of mounts, not the file system itself, which may hang.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

fn require(file: &str, what: &str) {
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    assert_eq!(uid, 0, "{what} needs root: run these tests as root, or in a container");
    assert!(Path::new(file).exists(), "{what} needs {file}, which this machine does not have");
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
