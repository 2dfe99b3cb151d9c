//! Classic BPF programs: what the uplink's sockets take, and which worker gets it.

/// A program for the kernel's classic BPF machine.
#[derive(Debug, Clone)]
pub struct Program {
    instructions: Vec<libc::sock_filter>,
}

impl Program {
    /// Lets nothing pass.
    #[must_use]
    pub fn drop_all() -> Self {
        let code = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap_or_default();
        Self {
            instructions: vec![libc::sock_filter {
                code,
                jt: 0,
                jf: 0,
                k: 0,
            }],
        }
    }

    pub(super) fn instructions(&self) -> &[libc::sock_filter] {
        &self.instructions
    }
}
