//! Name look-ups by the system's own resolver.

use std::ffi::{CStr, CString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{mem, ptr};

use crate::broker::Family;

/// The addresses of a name, in the order in which the system wants them tried, each once.
pub(in crate::ffi) fn look_up(name: &str, family: Family) -> Result<Vec<IpAddr>, String> {
    let failed = |why: &str| format!("the name {name} could not be looked up ({why})");
    let name_for_c = CString::new(name).map_err(|_| failed("it holds a NUL"))?;
    // SAFETY: all zeroes are no flags, any protocol and no pointers.
    let mut hints: libc::addrinfo = unsafe { mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    hints.ai_family = match family {
        Family::Any => libc::AF_UNSPEC,
        Family::V4 => libc::AF_INET,
    };
    let mut found: *mut libc::addrinfo = ptr::null_mut();
    // SAFETY: a terminated name, no service, and structs on this stack; `found` is given back below.
    let code =
        unsafe { libc::getaddrinfo(name_for_c.as_ptr(), ptr::null(), &raw const hints, &raw mut found) };
    match code {
        0 => {}
        libc::EAI_NONAME | libc::EAI_NODATA => return Err(format!("the name {name} has no address")),
        libc::EAI_SYSTEM => return Err(failed(&io::Error::last_os_error().to_string())),
        code => {
            // SAFETY: gives a terminated text that is never freed, for every code.
            let why = unsafe { CStr::from_ptr(libc::gai_strerror(code)) };
            return Err(failed(&why.to_string_lossy()));
        }
    }
    let mut addresses = Vec::new();
    let mut next: *const libc::addrinfo = found;
    // SAFETY: getaddrinfo made a list of structs that ends with NULL and lives until freeaddrinfo.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: its socket address is one of the family that it names.
        let address = unsafe { ip_of(entry) };
        addresses.extend(address.filter(|address| !addresses.contains(address)));
        next = entry.ai_next;
    }
    // SAFETY: the list of above, which nothing refers to any more.
    unsafe { libc::freeaddrinfo(found) };
    Ok(addresses)
}

/// # Safety
/// `ai_addr` must point to an address of the family `ai_family`.
unsafe fn ip_of(entry: &libc::addrinfo) -> Option<IpAddr> {
    match entry.ai_family {
        libc::AF_INET => {
            // SAFETY: the caller vouches for it.
            let address = unsafe { entry.ai_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the caller vouches for it.
            let address = unsafe { entry.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_own_name() {
        assert_eq!(look_up("127.0.0.9", Family::Any), Ok(vec![IpAddr::from([127, 0, 0, 9])]));
        assert_eq!(look_up("::1", Family::Any), Ok(vec![Ipv6Addr::LOCALHOST.into()]));
        assert!(look_up("::1", Family::V4).is_err());
        assert!(look_up("a\0b", Family::Any).is_err());
    }
}
