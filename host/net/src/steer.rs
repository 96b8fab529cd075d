//! Asks the kernel to give each datagram to the socket of its worker.

use std::io;
use std::net::UdpSocket;

/// Attaches a classic BPF program to the SO_REUSEPORT group of `socket`: the top byte of the
/// link id (offset 1 of the datagram, docs/protocol.md section 2) is the socket's index in the
/// order of binding; a link id of zero, or an index that no socket has, is left to the kernel's
/// hash (Linux: net/core/sock_reuseport.c).
///
/// # Errors
/// When the kernel refuses; where there is no such option, always.
#[cfg(target_os = "linux")]
pub(crate) fn by_worker(socket: &UdpSocket) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const SHIFT_RIGHT: u16 = 0x74;
    const RETURN_ACCUMULATOR: u16 = 0x16;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_WORD, 0, 0, 1),
        step(JUMP_IF_EQUAL, 2, 0, 0),
        step(SHIFT_RIGHT, 0, 0, 24),
        step(RETURN_ACCUMULATOR, 0, 0, 0),
        step(RETURN, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; `filter` and the program it
    // points to live until the call returns, and the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn by_worker(_: &UdpSocket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
