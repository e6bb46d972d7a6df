// Source NAT in XDP: ARP for addresses that are ours. BPF_PROG_TEST_RUN, root.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <cstring>

#include "xdp_nat_bed.h"

namespace vx::test {
namespace {

TEST_F(XdpNat, ArpForAPoolAddressIsTheKernelsAndACopyIsWorker0s)
{
	for (const std::vector<uint16_t> &tcis : {std::vector<uint16_t>{}, std::vector<uint16_t>{9}}) {
		const Bytes frame = ethernet("ff:ff:ff:ff:ff:ff", kPeerMac, 0x0806, arp(kOtherPool) + Bytes(18), tcis);
		const Outcome outcome = outside(frame);
		EXPECT_EQ(outcome.action, XDP_PASS);
		EXPECT_EQ(to_hex(outcome.out), to_hex(frame));
		expect_counts(outcome, "outside.", "passed");
		const Handed got = handed(outcome, "outside.", VX_EXCEPTION_ARP);
		EXPECT_EQ(got.worker, 0u);
		EXPECT_EQ(to_hex(got.packet), to_hex(arp(kOtherPool)));
		EXPECT_EQ(bytes_of(got.head.peer_mac, 6), mac_from(kPeerMac));
		EXPECT_EQ(got.head.tags[0].tci_be, htons(tcis.empty() ? 0 : 9));
	}
}

TEST_F(XdpNat, ArpForAGatewayAddressInsideIsAnsweredByWorker0)
{
	const auto ask = [](const Bytes &question) {
		return tunnel4(ethernet("ff:ff:ff:ff:ff:ff", kInnerFrom, 0x0806, question + Bytes(18), {4}));
	};
	Outcome outcome = bed_.run(ask(arp(kGateway)));
	EXPECT_EQ(outcome.action, XDP_DROP);
	expect_counts(outcome, "", "answered");
	const Handed got = handed(outcome, "", VX_EXCEPTION_ARP);
	EXPECT_EQ(got.worker, 0u);
	EXPECT_EQ(to_hex(got.packet), to_hex(arp(kGateway)));
	EXPECT_EQ(got.head.realm, kVni);
	EXPECT_EQ(bytes_of(got.head.inner_macs, 12), mac_from("ff:ff:ff:ff:ff:ff") + mac_from(kInnerFrom));
	const vx_addr peer = address_from("192.0.2.9");
	EXPECT_EQ(memcmp(&got.head.peer, &peer, 16), 0);
	for (const Bytes &other : {arp("10.0.0.2"), arp(kGateway, 2), arp(kPool)}) {
		outcome = bed_.run(ask(other));
		expect_counts(outcome, "", "not_ip");
		EXPECT_TRUE(outcome.records.empty());
	}
	Bytes stranger = ask(arp(kGateway));
	stranger[48] ^= 1;  // another VNI
	expect_counts(bed_.run(stranger), "", "not_ip");
	bed_.apply({"ring", "none"});
	expect_counts(bed_.run(ask(arp(kGateway))), "", "redirect_error");
}

TEST_F(XdpNat, PlainArpForAGatewayAddressIsAnsweredAndOtherArpIsTheKernels)
{
	load("hand_over=rings plain");
	const Outcome outcome = bed_.run(ethernet("ff:ff:ff:ff:ff:ff", kInnerFrom, 0x0806, arp(kGateway)));
	expect_counts(outcome, "", "answered");
	const Handed got = handed(outcome, "", VX_EXCEPTION_ARP);
	EXPECT_EQ(got.head.realm, VX_PLAIN_REALM);
	EXPECT_EQ(bytes_of(got.head.peer_mac, 6), mac_from(kInnerFrom));
	expect_counts(bed_.run(ethernet("ff:ff:ff:ff:ff:ff", kInnerFrom, 0x0806, arp("10.0.0.2"))), "", "passed");
	expect_counts(bed_.run(ethernet(kInsideMac, kInnerFrom, 0x0806, arp("10.0.0.2"))), "", "passed");
	expect_counts(bed_.run(ethernet(kInsideMac, kInnerFrom, 0x0806, arp(kGateway))), "", "answered");
}

}  // namespace
}  // namespace vx::test
