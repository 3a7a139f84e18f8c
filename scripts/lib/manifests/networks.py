"""Which networks a NetworkPolicy opens, and which of them the worker itself refuses."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network

ADDRESSES = "shared/src/ssrf/address.rs"
# Outside of the public addresses of IPv6: loopback, mapped IPv4, NAT64, private, link-local, multicast.
NOT_GLOBAL_V6 = ("::1/128", "::ffff:0:0/96", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8")
# It carries an address of IPv4, private ones too.
SIX_TO_FOUR = "2002::/16"


def refused_by_worker(repository):
    """The networks that the worker's check of addresses refuses, from its source."""
    source = (repository / ADDRESSES).read_text()
    v4 = re.findall(r"^ +v4\(\[(\d+), (\d+), (\d+), (\d+)\], (\d+)\)", source, re.MULTILINE)
    v6 = re.findall(r"^ +v6\(\[(\w+), (\w+), (\w+)\], (\d+)\)", source, re.MULTILINE)
    counts = re.findall(r"const SPECIAL_V[46]: \[Ipv[46]Net; (\d+)\]", source)
    if [len(v4), len(v6)] != [int(count) for count in counts]:
        raise SystemExit(f"{ADDRESSES}: its lists of networks are not written as this check reads them")
    networks = [IPv4Network(f"{a}.{b}.{c}.{d}/{prefix}") for a, b, c, d, prefix in v4]
    for *head, prefix in v6:
        words = ":".join(f"{int(word, 0):x}" for word in head)
        networks.append(IPv6Network(f"{words}::/{prefix}"))
    return [*networks, *(ip_network(one) for one in (*NOT_GLOBAL_V6, SIX_TO_FOUR))]


def blocks(peers):
    return [peer["ipBlock"] for peer in peers if "ipBlock" in peer]


def without_ipv6(policy):
    """The lists of peers that name addresses, but none of IPv6."""
    spec = policy["spec"]
    rules = [rule.get("to", []) for rule in spec.get("egress", [])] + [rule.get("from", []) for rule in spec.get("ingress", [])]
    named = [[block["cidr"] for block in blocks(peers)] for peers in rules]
    return [cidrs for cidrs in named if cidrs and not any(":" in cidr for cidr in cidrs)]


def open_to_workers(policy, refused):
    """The refused networks that a rule of egress opens at least in part. A rule that names nobody opens all of them."""
    opened = []
    for rule in policy["spec"].get("egress", []):
        peers = rule.get("to") or [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]
        for block in blocks(peers):
            whole = ip_network(block["cidr"])
            left_out = [ip_network(one) for one in block.get("except", [])]
            opened += [
                network
                for network in refused
                if network.version == whole.version
                and network.overlaps(whole)
                and not any(network.subnet_of(one) for one in left_out)
            ]
    return opened
