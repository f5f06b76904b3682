//! One nf_tables table: masquerading for what leaves a bridge. No external program, no library.
//!
//! The table has one chain and one rule, is replaced as a whole, and nothing outside it is read or touched. Frames
//! that are forwarded need no rule here: a base chain cannot overrule the `drop` of somebody else's.

use super::message::Message;
use super::{NetlinkError, Socket};
use nix::sys::socket::SockProtocol;
use std::net::Ipv4Addr;

/// linux/netfilter/nfnetlink.h and nf_tables.h, by their names there; libc has only some of them.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFT_REG_1: u32 = 1;
const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
const NFT_META_OIFNAME: u32 = 7;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
/// Where the IPv4 header has its source address, and how long that is.
const SOURCE_OFFSET: u32 = 12;
const SOURCE_LENGTH: u32 = 4;
const NF_INET_POST_ROUTING: u32 = 4;
/// Where source NAT belongs.
const NF_IP_PRI_NAT_SRC: u32 = 100;
const NFPROTO_IPV4: u8 = 2;
/// A link's name as the kernel compares it.
const IFNAMSIZ: usize = 16;
const CHAIN: &str = "postrouting";

/// nf_tables of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct TableSocket(Socket);

impl TableSocket {
    pub fn open() -> Result<TableSocket, NetlinkError> {
        Socket::open(SockProtocol::NetlinkNetFilter).map(TableSocket)
    }

    pub fn exists(&mut self, table: &str) -> Result<bool, NetlinkError> {
        let message = Message::new(kind(NFT_MSG_GETTABLE), 0, &nfgen()).text(NFTA_TABLE_NAME, table);
        self.0.ask(message).map(|found| found.is_some()).map_err(unserved)
    }

    /// `table ip NAME { type nat hook postrouting priority srcnat; ip saddr NETWORK/PREFIX oifname != "BRIDGE"
    /// masquerade }`, in place of whatever the table held.
    pub fn replace_with_masquerade(
        &mut self,
        table: &str,
        network: Ipv4Addr,
        prefix: u8,
        bridge: &str,
    ) -> Result<(), NetlinkError> {
        let create = libc::NLM_F_CREATE;
        let new_table = Message::new(kind(NFT_MSG_NEWTABLE), create, &nfgen()).text(NFTA_TABLE_NAME, table);
        let chain = Message::new(kind(NFT_MSG_NEWCHAIN), create, &nfgen())
            .text(NFTA_CHAIN_TABLE, table)
            .text(NFTA_CHAIN_NAME, CHAIN)
            .nest(NFTA_CHAIN_HOOK, |hook| {
                hook.be32(NFTA_HOOK_HOOKNUM, NF_INET_POST_ROUTING).be32(NFTA_HOOK_PRIORITY, NF_IP_PRI_NAT_SRC)
            })
            .text(NFTA_CHAIN_TYPE, "nat");
        let rule = Message::new(kind(NFT_MSG_NEWRULE), create | libc::NLM_F_APPEND, &nfgen())
            .text(NFTA_RULE_TABLE, table)
            .text(NFTA_RULE_CHAIN, CHAIN)
            .nest(NFTA_RULE_EXPRESSIONS, |list| masquerade(list, network, prefix, bridge));
        let mut messages = vec![new_table.clone(), chain, rule];
        // Only where it must be: after a transaction that deletes, closing the socket waits for the kernel's cleaning
        // up, some 10 ms. The table is made sure to exist before, in case somebody deletes it meanwhile.
        if self.exists(table)? {
            let delete = Message::new(kind(NFT_MSG_DELTABLE), 0, &nfgen()).text(NFTA_TABLE_NAME, table);
            messages.splice(0..0, [new_table, delete]);
        }
        self.transaction(messages)
    }

    /// Fine if it is not there.
    pub fn delete(&mut self, table: &str) -> Result<(), NetlinkError> {
        let message = Message::new(kind(NFT_MSG_DELTABLE), 0, &nfgen()).text(NFTA_TABLE_NAME, table);
        match self.transaction(vec![message]) {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }

    fn transaction(&mut self, messages: Vec<Message>) -> Result<(), NetlinkError> {
        // The subsystem that the batch is for, big-endian, in place of a resource id.
        let frame = [&[0, 0][..], &NFNL_SUBSYS_NFTABLES.to_be_bytes()].concat();
        let mut bytes = Message::new(NFNL_MSG_BATCH_BEGIN, 0, &frame).finish(0, libc::NLM_F_REQUEST);
        let mut sequence = self.0.sequence;
        for message in messages {
            sequence += 1;
            bytes.extend(message.finish(sequence, libc::NLM_F_REQUEST | libc::NLM_F_ACK));
        }
        let last = sequence;
        bytes.extend(Message::new(NFNL_MSG_BATCH_END, 0, &frame).finish(0, libc::NLM_F_REQUEST));
        self.0.transaction(&bytes, last)
    }
}

/// So plain a question has nothing invalid: nfnetlink says EINVAL to all that a subsystem it does not have is asked,
/// and to a batch for it what this makes of it.
fn unserved(error: NetlinkError) -> NetlinkError {
    match error {
        NetlinkError::Refused { errno: libc::EINVAL, reason } => {
            NetlinkError::Refused { errno: libc::EOPNOTSUPP, reason }
        }
        other => other,
    }
}

fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

/// struct nfgenmsg: family, version, resource id.
fn nfgen() -> [u8; 4] {
    [NFPROTO_IPV4, 0, 0, 0]
}

fn masquerade(list: Message, network: Ipv4Addr, prefix: u8, bridge: &str) -> Message {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0).to_be_bytes();
    let mut name = bridge.as_bytes().to_vec();
    name.resize(IFNAMSIZ, 0);
    let list = expression(list, "payload", |data| {
        data.be32(NFTA_PAYLOAD_DREG, NFT_REG_1)
            .be32(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER)
            .be32(NFTA_PAYLOAD_OFFSET, SOURCE_OFFSET)
            .be32(NFTA_PAYLOAD_LEN, SOURCE_LENGTH)
    });
    let list = expression(list, "bitwise", |data| {
        data.be32(NFTA_BITWISE_SREG, NFT_REG_1)
            .be32(NFTA_BITWISE_DREG, NFT_REG_1)
            .be32(NFTA_BITWISE_LEN, SOURCE_LENGTH)
            .nest(NFTA_BITWISE_MASK, |value| value.attribute(NFTA_DATA_VALUE, &mask))
            .nest(NFTA_BITWISE_XOR, |value| value.attribute(NFTA_DATA_VALUE, &[0; 4]))
    });
    let list = expression(list, "cmp", |data| compare(data, NFT_CMP_EQ, &network.octets()));
    let list =
        expression(list, "meta", |data| data.be32(NFTA_META_DREG, NFT_REG_1).be32(NFTA_META_KEY, NFT_META_OIFNAME));
    let list = expression(list, "cmp", |data| compare(data, NFT_CMP_NEQ, &name));
    expression(list, "masq", |data| data)
}

fn expression(list: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    list.nest(NFTA_LIST_ELEM, |element| element.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, fill))
}

fn compare(data: Message, operator: u32, value: &[u8]) -> Message {
    data.be32(NFTA_CMP_SREG, NFT_REG_1)
        .be32(NFTA_CMP_OP, operator)
        .nest(NFTA_CMP_DATA, |data| data.attribute(NFTA_DATA_VALUE, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nfnetlink_without_nf_tables_is_nobody_who_answers() {
        let refused = |errno| NetlinkError::Refused { errno, reason: String::new() };
        assert!(unserved(refused(libc::EINVAL)).nobody_answers());
        assert!(!unserved(refused(libc::EPERM)).nobody_answers());
    }
}
