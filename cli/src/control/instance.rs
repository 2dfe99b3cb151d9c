//! One switch of a name: its lock, and its socket.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::CliError;

/// The claim to a name. While it lives no other process can run a vswitch of that name; when it is
/// dropped, socket and lock file are gone.
///
/// The claim is a `flock`, which ends with the process however it dies, so there is no stale claim
/// and no race between two that start at once. The socket's file proves nothing: it stays behind
/// after a SIGKILL, and is replaced by whoever holds the lock.
#[derive(Debug)]
pub struct Instance {
    name: String,
    _lock: Flock<File>,
    lock_path: PathBuf,
    socket_path: PathBuf,
    listening: bool,
}

/// What a control socket's name ends with.
const SOCKET: &str = ".sock";

/// Where the switch of that name has its control socket.
#[must_use]
pub fn socket_path(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join(format!("{name}{SOCKET}"))
}

/// The switch whose control socket has that file name, if it is one.
#[must_use]
pub fn name_of(file: &str) -> Option<&str> {
    file.strip_suffix(SOCKET)
}

impl Instance {
    /// Claims `name` in `run_dir`, which is made if it is not there.
    ///
    /// # Errors
    /// The name is taken by a running vswitch (the error names its process), or the directory
    /// cannot be written to.
    pub fn claim(run_dir: &Path, name: &str) -> Result<Self, CliError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(run_dir)
            .map_err(|error| unusable(run_dir, &error))?;
        let lock_path = run_dir.join(format!("{name}.lock"));
        let mut lock = lock_file(&lock_path, name)?;
        write_pid(&mut lock).map_err(|error| unusable(&lock_path, &error))?;
        let socket_path = socket_path(run_dir, name);
        Ok(Self {
            name: name.into(),
            _lock: lock,
            lock_path,
            socket_path,
            listening: false,
        })
    }

    /// Removes the socket and the lock file that a killed vswitch left; true if there were any. A
    /// running one keeps its own.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn sweep(run_dir: &Path, name: &str) -> Result<bool, CliError> {
        let lock_path = run_dir.join(format!("{name}.lock"));
        if is_held(&lock_path) {
            return Ok(false);
        }
        if !lock_path.exists() && !socket_path(run_dir, name).exists() {
            return Ok(false);
        }
        let mut instance = Self::claim(run_dir, name)?;
        // It is not, but the one that was has left its socket: this removes it.
        instance.listening = true;
        Ok(true)
    }

    /// The name claimed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients connect.
    #[must_use]
    pub fn socket_path(&self) -> &Path {
        &self.socket_path
    }

    /// Listens on the socket, mode 0660. It is bound under another name and moved into place, so
    /// that nobody ever meets it with other permissions, or half replaced.
    ///
    /// # Errors
    /// Somebody who holds no lock answers there, or the socket cannot be made.
    pub fn listen(&mut self) -> Result<UnixListener, CliError> {
        let path = &self.socket_path;
        if UnixStream::connect(path).is_ok() {
            return Err(CliError::failed(
                path.display().to_string(),
                "another process answers on this socket",
                format!("fuser -v {}", path.display()),
            ));
        }
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let listen = || {
            if let Err(error) = fs::remove_file(&fresh)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(error);
            }
            let listener = UnixListener::bind(&fresh)?;
            fs::set_permissions(&fresh, Permissions::from_mode(0o660))?;
            fs::rename(&fresh, path)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = listen().map_err(|error| unusable(path, &error))?;
        self.listening = true;
        Ok(listener)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Removed under the lock, so these are our own files and not a successor's. One that is
        // gone already needs no removing, and there is nobody left to tell of another failure.
        if self.listening {
            drop(fs::remove_file(&self.socket_path));
        }
        drop(fs::remove_file(&self.lock_path));
    }
}

/// Opens and locks the file. The holder removes it when it ends, so the file just locked may no
/// longer be the one of that name; then it is tried again with the new one.
fn lock_file(path: &Path, name: &str) -> Result<Flock<File>, CliError> {
    const TRIES_MAX: u32 = 100; // Each needs a predecessor that ends in between; one is usual.
    for _ in 0..TRIES_MAX {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Nobody else may open it: whoever can, can lock it and keep the name from starting.
            .mode(0o600)
            .open(path)
            .map_err(|error| unusable(path, &error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) if is_at(&lock, path) => return Ok(lock),
            Ok(_) => {}
            Err((mut file, Errno::EWOULDBLOCK)) => return Err(taken(&mut file, name)),
            Err((_, errno)) => return Err(unusable(path, &errno.into())),
        }
    }
    let why = "other processes keep claiming and leaving the name";
    Err(CliError::failed(
        path.display().to_string(),
        why,
        "vswitch --name OTHER",
    ))
}

fn is_held(path: &Path) -> bool {
    let lock = |file| Flock::lock(file, FlockArg::LockSharedNonblock);
    File::open(path).is_ok_and(|file| matches!(lock(file), Err((_, Errno::EWOULDBLOCK))))
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn write_pid(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    writeln!(lock, "{}", std::process::id())
}

fn taken(file: &mut File, name: &str) -> CliError {
    let mut holder = String::new();
    let what = format!("vswitch {name}");
    // The process id is a courtesy: a holder just starting may not have written it yet.
    match file.take(16).read_to_string(&mut holder) {
        Ok(_) if !holder.trim().is_empty() => {
            let why = format!("is running already (pid {})", holder.trim());
            CliError::failed(what, why, "vswitch --name OTHER, or stop that one")
        }
        Ok(_) | Err(_) => CliError::failed(what, "is running already", "vswitch --name OTHER"),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> CliError {
    let fix = if error.kind() == std::io::ErrorKind::PermissionDenied {
        "run as root, or with --run-dir DIR of your own"
    } else {
        "choose another with --run-dir DIR"
    };
    CliError::failed(path.display().to_string(), error.to_string(), fix)
}
